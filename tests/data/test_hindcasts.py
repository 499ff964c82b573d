import numpy as np
import pytest
import xarray

from tests.data import layouts
from weatherlib import data
from weatherlib.data import hindcast_layout

LEADS = np.array([6, 12, 18], "timedelta64[h]").astype("timedelta64[ns]")
STARTS = np.array(["2026-01-15T00", "2026-01-15T12"], "datetime64[ns]")
SINGLE = data.HindcastPlan(starts=STARTS, lead_times=LEADS)
ENSEMBLE = data.HindcastPlan(starts=STARTS, lead_times=LEADS, members=3)
ATTRS = {
    "checkpoint_sha256": "abc",
    "license": "CC0-1.0",
    "initial_conditions": "era5.nc",
    "initial_state_sha256": "0",
}


def _frames(seed, leads=LEADS, members=None):
    rng = np.random.default_rng(seed)
    sizes = {"batch": 1, "time": len(leads), "level": 2, "lat": 3, "lon": 4}
    lead = () if members is None else ("sample",)
    sizes["sample"] = members

    def field(*dims):
        dims = (*lead, *dims)
        values = rng.normal(size=[sizes[dim] for dim in dims]).astype(np.float32)
        return dims, values

    return xarray.Dataset(
        {
            "2m_temperature": field("batch", "time", "lat", "lon"),
            "temperature": field("batch", "time", "level", "lat", "lon"),
        },
        {
            "time": leads,
            "level": np.array([500, 850], np.int32),
            "lat": np.array([-60.0, 0.0, 60.0], np.float32),
            "lon": np.array([0.0, 90.0, 180.0, 270.0], np.float32),
        },
    )


TEMPLATE = _frames(0)


def _open(path, plan=SINGLE, **settings):
    return data.open_hindcasts(path, plan, TEMPLATE, attrs=ATTRS, **settings)


def _fill(writer, start, members=None):
    slot = writer.slot(start, members)
    width = None if members is None else len(members)
    seed = start * 10 + (0 if members is None else members.start)
    whole = _frames(seed, members=width)
    for lead in range(len(LEADS)):
        slot.write(whole.isel(time=[lead]))
    slot.finish()
    return whole


@pytest.mark.parametrize("name", ["set.zarr", "set.nc"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_set_has_the_layout_of_weatherbench(name, zarr_format, tmp_path):
    layouts.require_zarr(zarr_format)
    path = tmp_path / name
    with _open(path, zarr_format=zarr_format) as writer:
        expected = [_fill(writer, start) for start in range(2)]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with data.open_dataset(path, canonical=False) as found:
        assert found["2m_temperature"].dims == (
            "time", "prediction_timedelta", "latitude", "longitude",
        )  # fmt: skip
        assert found["temperature"].dims[2] == "level"
        np.testing.assert_array_equal(found["time"], STARTS)
        np.testing.assert_array_equal(found["prediction_timedelta"], LEADS)
        np.testing.assert_array_equal(found["valid_time"], STARTS[:, None] + LEADS)
        for start, frames in enumerate(expected):
            for variable in frames:
                np.testing.assert_array_equal(
                    found[variable][start], frames[variable][0]
                )
        assert found["temperature"].attrs["standard_name"] == "air_temperature"
        assert found["latitude"].attrs["units"] == "degrees_north"
        assert found.attrs["Conventions"].startswith("CF-")
        assert found.attrs["license"] == "CC0-1.0"
        assert hindcast_layout.COMPLETE not in found


def test_members_lie_along_number(tmp_path):
    path = tmp_path / "set.zarr"
    with _open(path, ENSEMBLE) as writer:
        for start in range(2):
            late = _fill(writer, start, range(1, 3))
            assert not writer.is_complete(start)
            assert writer.is_complete(start, range(2, 3))
            early = _fill(writer, start, range(1))
    with data.open_dataset(path, canonical=False) as found:
        assert found["temperature"].dims[:2] == ("time", "number")
        np.testing.assert_array_equal(found["number"], [0, 1, 2])
        np.testing.assert_array_equal(
            found["temperature"][1, 1:], late["temperature"][:, 0]
        )
        np.testing.assert_array_equal(
            found["temperature"][1, :1], early["temperature"][:, 0]
        )


@pytest.mark.parametrize("name", ["set.zarr", "set.nc"])
def test_a_set_goes_on_with_the_parts_that_are_missing(name, tmp_path):
    path = tmp_path / name
    writer = _open(path)
    expected = _fill(writer, 1)
    # A part that was begun but not finished does not count, as after a kill.
    writer.slot(0).write(_frames(5).isel(time=[0]))
    del writer
    with _open(path) as writer:
        assert writer.parts_written == 1
        assert writer.is_complete(1) and not writer.is_complete(0)
        with data.open_dataset(f"{path}.partial", canonical=False) as partial:
            assert np.isnan(partial["temperature"][0, 1:]).all()
        _fill(writer, 0)
    with data.open_dataset(path, canonical=False) as found:
        np.testing.assert_array_equal(
            found["temperature"][1], expected["temperature"][0]
        )


@pytest.mark.parametrize("name", ["set.zarr", "set.nc"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("members", [None, 2])
def test_a_set_is_finished_without_the_starts_left_out(
    name, zarr_format, members, tmp_path
):
    layouts.require_zarr(zarr_format)
    starts = STARTS[0] + np.arange(4) * np.timedelta64(6, "h")
    plan = data.HindcastPlan(starts=starts, lead_times=LEADS, members=members)
    numbers = None if members is None else range(members)
    path = tmp_path / name
    # The first run stops at a start which the next one leaves out.
    writer = _open(path, plan, zarr_format=zarr_format)
    expected = [_fill(writer, 0, numbers)]
    del writer
    with _open(path, plan, zarr_format=zarr_format) as writer:
        writer.leave_out([1, 2])
        expected.append(_fill(writer, 3, numbers))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with data.open_dataset(path, canonical=False) as found:
        np.testing.assert_array_equal(found["time"], starts[[0, 3]])
        valid = starts[[0, 3], np.newaxis] + LEADS
        np.testing.assert_array_equal(found["valid_time"], valid)
        for place, frames in enumerate(expected):
            for variable in frames:
                kept = frames[variable].isel(batch=0)
                np.testing.assert_array_equal(found[variable][place], kept)
        assert found.attrs["starts_left_out"] == "2026-01-15T06:00, 2026-01-15T12:00"
        assert hindcast_layout.COMPLETE not in found
        if name == "set.zarr":
            assert found["temperature"].encoding["chunks"][0] == 1
    with _open(path, plan, zarr_format=zarr_format, overwrite=True) as writer:
        for start in range(4):
            _fill(writer, start, numbers)
    with data.open_dataset(path, canonical=False) as found:
        assert found.sizes["time"] == 4 and "starts_left_out" not in found.attrs


def test_starts_are_left_out_only_where_some_remain(tmp_path):
    writer = _open(tmp_path / "set.zarr")
    with pytest.raises(ValueError, match="no start number 2"):
        writer.leave_out([2])
    with pytest.raises(ValueError, match="no start is left"):
        writer.leave_out([0, 1])
    writer.leave_out([0])
    with pytest.raises(ValueError, match="0 of 1 forecasts are complete"):
        writer.close()


def test_an_error_leaves_the_set_unfinished(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), _open(tmp_path / "s.zarr") as w:
        _fill(w, 0)
        raise RuntimeError("stop")
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr.partial"]


@pytest.mark.parametrize(
    ("plan", "attrs", "message"),
    [
        (data.HindcastPlan(starts=STARTS[:1], lead_times=LEADS), ATTRS, "of time"),
        (
            data.HindcastPlan(starts=STARTS, lead_times=LEADS[:2]),
            ATTRS,
            "of prediction_timedelta",
        ),
        (ENSEMBLE, ATTRS, "variables number"),
        (SINGLE, {"checkpoint_sha256": "other"}, "with checkpoint_sha256 abc"),
        (
            SINGLE,
            {**ATTRS, "initial_conditions": "other.nc"},
            r"with initial_conditions era5\.nc, this one has other\.nc",
        ),
        (SINGLE, {**ATTRS, "initial_state_sha256": "1"}, "with initial_state_sha256 0"),
        (SINGLE, {**ATTRS, "sampler": "kind ddim"}, "with sampler None"),
    ],
)
def test_another_set_is_not_continued(plan, attrs, message, tmp_path):
    path = tmp_path / "set.zarr"
    _open(path)
    with pytest.raises(ValueError, match=message):
        data.open_hindcasts(path, plan, TEMPLATE, attrs=attrs)


@pytest.mark.parametrize("name", ["set.zarr", "set.nc"])
def test_what_the_vocabulary_lacks_keeps_its_own_attributes(name, tmp_path):
    attrs = {"units": "kg m-2", "long_name": "snow on Mars"}

    def snowy(frames):
        snow = frames["2m_temperature"].assign_attrs(attrs)
        return frames.assign(martian_snow=snow)

    plan = data.HindcastPlan(starts=STARTS[:1], lead_times=LEADS)
    path = tmp_path / name
    with data.open_hindcasts(path, plan, snowy(TEMPLATE), attrs=ATTRS) as writer:
        slot = writer.slot(0)
        slot.write(snowy(TEMPLATE))
        slot.finish()
    with data.open_dataset(path, canonical=False) as found:
        assert found["martian_snow"].attrs.items() >= attrs.items()
        assert found["2m_temperature"].attrs["units"] == "K"


def test_a_set_with_other_derived_quantities_is_not_continued(tmp_path):
    path = tmp_path / "set.zarr"
    _open(path)
    winds = TEMPLATE.assign(
        u_component_of_wind=TEMPLATE["temperature"],
        v_component_of_wind=TEMPLATE["temperature"],
    )
    other = tmp_path / "other.zarr"
    data.open_hindcasts(other, SINGLE, winds, attrs=ATTRS)
    with pytest.raises(ValueError, match="differs in the variables wind_speed"):
        data.open_hindcasts(other, SINGLE, winds, attrs=ATTRS, derive=["wind_speed"])


def test_something_else_under_the_name_is_left_alone(tmp_path):
    TEMPLATE.to_zarr(tmp_path / "set.zarr.partial", consolidated=False)
    with pytest.raises(ValueError, match="no unfinished set"):
        _open(tmp_path / "set.zarr")
    (tmp_path / "other.zarr.partial").write_text("notes")
    with pytest.raises(OSError, match="unreadable"):
        _open(tmp_path / "other.zarr")


def test_a_finished_set_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "set.zarr"
    for overwrite in (False, True):
        with _open(path, overwrite=overwrite) as writer:
            _fill(writer, 0)
            _fill(writer, 1)
    with pytest.raises(FileExistsError, match="exists already"):
        _open(path)


def test_a_set_with_missing_parts_is_not_closed(tmp_path):
    writer = _open(tmp_path / "set.zarr")
    _fill(writer, 0)
    with pytest.raises(ValueError, match="1 of 2 forecasts are complete"):
        writer.close()


def test_frames_must_follow_and_fit(tmp_path):
    writer = _open(tmp_path / "set.zarr")
    with pytest.raises(ValueError, match="do not follow"):
        writer.slot(0).write(_frames(0, LEADS + LEADS[0]))
    with pytest.raises(ValueError, match="given to a set of"):
        writer.slot(0).write(_frames(0).drop_vars("temperature"))
    with pytest.raises(ValueError, match="members"):
        writer.slot(0).write(_frames(0, members=2))
    slot = writer.slot(0)
    slot.write(_frames(0).isel(time=[0]))
    with pytest.raises(ValueError, match="1 frames of 3"):
        slot.finish()
    for start, members in ((2, None), (0, range(2))):
        with pytest.raises(ValueError):
            writer.slot(start, members)


@pytest.mark.parametrize("members", [range(2, 4), range(0)])
def test_members_must_be_those_of_the_set(members, tmp_path):
    writer = _open(tmp_path / "set.zarr", ENSEMBLE)
    with pytest.raises(ValueError, match="are not among"):
        writer.slot(0, members)


def test_a_suffix_or_a_batch_that_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown kind of file"):
        _open(tmp_path / "set.grib")
    two = xarray.concat([TEMPLATE, TEMPLATE], "batch", data_vars="all")
    with pytest.raises(ValueError, match="batch of one"):
        data.open_hindcasts(tmp_path / "set.zarr", SINGLE, two)


@pytest.mark.parametrize(
    "change",
    [
        {"starts": STARTS[::-1]},
        {"starts": STARTS[:0]},
        {"lead_times": np.arange(3)},
        {"members": 0},
    ],
)
def test_a_plan_is_checked(change):
    axes = {"starts": STARTS, "lead_times": LEADS, "members": None}
    with pytest.raises(ValueError):
        data.HindcastPlan(**{**axes, **change})


@pytest.mark.parametrize("name", ["set.zarr", "set.nc"])
def test_a_block_holds_what_its_starts_hold_one_by_one(name, tmp_path):
    with _open(tmp_path / f"one-{name}") as writer:
        parts = [_fill(writer, start) for start in range(2)]
    with _open(tmp_path / name) as writer:
        slot = writer.block(range(2))
        whole = xarray.concat(parts, "sample")
        for lead in range(len(LEADS)):
            slot.write(whole.isel(time=[lead]))
        assert not writer.is_complete(0)
        slot.finish()
        assert writer.is_complete(0) and writer.is_complete(1)
    with (
        data.open_dataset(tmp_path / name, canonical=False) as found,
        data.open_dataset(tmp_path / f"one-{name}", canonical=False) as expected,
    ):
        xarray.testing.assert_equal(found.load(), expected.load())


@pytest.mark.parametrize("starts", [range(1, 3), range(0), range(0, 2, 2)])
def test_a_block_is_of_starts_in_a_row(starts, tmp_path):
    with pytest.raises(ValueError, match=r"no starts in a row|no start number 2"):
        _open(tmp_path / "set.zarr").block(starts)
