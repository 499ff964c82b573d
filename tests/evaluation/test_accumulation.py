import functools

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation import samples
from weatherlib import data, evaluation
from weatherlib.evaluation import deterministic, ensemble, events, regions, spectra

_ALL = ("rmse", "mse", "mae", "bias", "acc", "activity", "power_spectrum",
        "zonal_spectrum", "crps")  # fmt: skip
_ENSEMBLE = ("crps", "crps_fair", "ensemble_mean_rmse", "ensemble_mean_rmse_fair",
             "ensemble_spread", "spread_skill_ratio", "energy_score",
             "energy_score_fair", "rank_histogram")  # fmt: skip
_EVENTS = ("csi", "pod", "sucr", "far", "frequency_bias", "brier_score",
           "brier_score_fair", "reliability_diagram", "fss")  # fmt: skip
_WARM = {"2m_temperature": (evaluation.parse_threshold("282"),
                            evaluation.parse_threshold("q0.2"))}  # fmt: skip


def _ensemble_pair(members=4):
    happened = samples.truth()
    return samples.forecasts(happened, members=members), happened


def _run(forecast, happened, **options):
    options = {"confidence": 0.0, "references": (), "regions": ("global",), **options}
    return evaluation.evaluate(forecast, happened, **options)


def _arrays(forecast, happened, name="geopotential"):
    """Returns forecast, truth, both (init, lead, level, lat, lon), and weights."""
    dims = ("time", "prediction_timedelta", ..., "latitude", "longitude")
    forecast = forecast[name].transpose(*dims)
    valid = forecast["time"] + forecast["prediction_timedelta"]
    truth = happened[name].sel(time=valid.drop_vars("time"))
    weights = np.cos(np.deg2rad(happened["latitude"].values))[:, None]
    return forecast.values, truth.transpose(*dims[:2], ...).values, weights


def test_fields_that_do_not_change_are_left_out_with_a_note():
    mask = (("latitude", "longitude"), np.zeros((8, 12)))
    forecast, happened = (d.assign(land_sea_mask=mask) for d in samples.pair())
    found = _run(forecast, happened, metrics=("rmse",))
    assert "land_sea_mask" not in found
    note = "land_sea_mask: does not change in time in forecast, left out"
    assert note in found.attrs["notes"]
    one = _run(forecast.isel(time=0), happened, metrics=("rmse",))
    assert "land_sea_mask: does not change" in one.attrs["notes"]
    with pytest.raises(ValueError, match="land_sea_mask: does not change in time"):
        _run(forecast, happened, variables=("land_sea_mask",))
    with pytest.raises(ValueError, match="share no variable that changes in time"):
        _run(forecast, happened.drop_vars(["geopotential", "2m_temperature"]))


def test_a_single_level_is_compared_with_that_level_only():
    forecast, happened = samples.pair()
    whole = _run(forecast, happened, metrics=("rmse",))
    upper = forecast.sel(level=500)
    for truth in (happened, happened.sel(level=500)):
        found = _run(upper, truth, metrics=("rmse",), references=("climatology",),
                     climatology=happened.mean("time").sel(level=[500]))  # fmt: skip
        assert found["level"].values.tolist() == [500]
        ours = found["geopotential"].sel(model="forecast", level=500)
        theirs = whole["geopotential"].sel(model="forecast", level=500)
        np.testing.assert_allclose(ours, theirs)
        assert "level" not in found["2m_temperature"].dims
    with pytest.raises(ValueError, match="no level in common: forecast has 500; truth"):
        _run(upper, happened.sel(level=850))
    with pytest.raises(ValueError, match="the climatology has no levels, the truth"):
        _run(upper, happened, references=("climatology",),
             climatology=happened.mean("time").sel(level=500, drop=True))  # fmt: skip


def test_a_climatology_in_other_units_is_refused():
    forecast, happened = samples.pair()
    normal = happened.mean("time", keep_attrs=True)
    options = {"references": ("climatology",), "metrics": ("rmse",)}
    expected = _run(forecast, happened, climatology=normal, **options)
    normal["2m_temperature"].attrs["units"] = "Kelvin"
    found = _run(forecast, happened, climatology=normal, **options)
    xarray.testing.assert_identical(found, expected)
    normal["2m_temperature"] = normal["2m_temperature"] - 273.15
    normal["2m_temperature"].attrs["units"] = "degC"
    message = "2m_temperature: the climatology is in degC, the truth in K"
    with pytest.raises(ValueError, match=message):
        _run(forecast, happened, climatology=normal, **options)
    # Only what is scored matters.
    _run(forecast, happened, climatology=normal, variables=("geopotential",), **options)


def test_zonal_spectra_are_of_the_whole_globe_whatever_the_regions():
    forecast, happened = samples.pair()
    found = [
        _run(forecast, happened, metrics=("zonal_spectrum",), regions=names)
        for names in (("global", "tropics"), ("tropics", "global"))
    ]
    name = "forecast_zonal_spectrum.2m_temperature"
    np.testing.assert_array_equal(found[0][name], found[1][name])
    ours, _, weights = _arrays(forecast, happened, "2m_temperature")
    power = spectra.zonal_power(ours).mean(0)
    area = regions.point_weights(regions.Grid(
        lat=happened["latitude"].values, lon=None, shape=(8, 1)))  # fmt: skip
    np.testing.assert_allclose(area, weights / weights.mean(), rtol=0.02)
    expected = (power * area).mean(-2)
    np.testing.assert_allclose(found[1][name].squeeze("model"), expected)


def test_fields_with_gaps_are_counted_where_spectra_leave_them_out():
    forecast, happened = (d.copy(deep=True) for d in samples.pair())
    options = {"metrics": ("power_spectrum",), "variables": ("2m_temperature",)}
    happened = happened.isel(time=slice(0, 14))  # Some pairs have no truth at all.
    whole = _run(forecast, happened, **options)
    assert "spectra of" not in whole.attrs["notes"].replace("spectra, hist", "")
    happened["2m_temperature"][5, 3, 4] = np.nan
    other = forecast.copy(deep=True)
    other["2m_temperature"][:2] = np.nan
    found = _run({"a": forecast, "b": other}, happened, **options)
    notes = found.attrs["notes"]
    note = "of 35 fields have missing values and are left out"
    assert f"spectra of 2m_temperature: 3 {note} (a)" in notes
    assert f"spectra of 2m_temperature: 9 {note} (b)" in notes
    assert np.isfinite(found["forecast_power_spectrum.2m_temperature"]).all()


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_whole_lead_times_without_units_are_hours_with_a_note(dtype):
    forecast, happened = samples.pair()
    hours = np.array([12, 24, 36], dtype)
    bare = forecast.assign_coords(prediction_timedelta=hours)
    found = _run(bare, happened, metrics=("rmse",))
    expected = _run(forecast, happened, metrics=("rmse",))
    xarray.testing.assert_equal(found, expected)
    note = "forecast: prediction_timedelta has no units; its numbers are taken for"
    assert note in found.attrs["notes"] and note not in expected.attrs["notes"]


def test_neighbours_stay_neighbours_in_a_domain_across_greenwich():
    whole = samples.truth(times=6, rows=12, columns=36)
    happened = whole.isel(longitude=slice(9, 27), latitude=slice(4, 11))
    forecast = samples.forecasts(happened, starts=2, leads=1, noise=0.8)
    warm = {"2m_temperature": (evaluation.parse_threshold("281"),)}
    options = {"metrics": ("fss", "rmse"), "thresholds": warm, "regions": ("domain",)}

    def scores(change, other=None):
        found = _run(change(forecast), (other or change)(happened), **options)
        return np.append(found["fss.2m_temperature"], found["2m_temperature"])

    def moved(dataset):
        # From 90 to 260 degrees east to 80 west and 90 east, as 0 to 360.
        east = (dataset["longitude"].values - 170) % 360
        return dataset.assign_coords(longitude=east).sortby("longitude")

    def signed(dataset):
        return dataset.assign_coords(longitude=dataset["longitude"].values - 170)

    expected = scores(lambda d: d)
    np.testing.assert_allclose(scores(moved), expected)
    np.testing.assert_allclose(scores(signed), expected)
    # A truth of the whole globe is cut to the same columns.
    np.testing.assert_allclose(scores(moved, lambda _: moved(whole)), expected)


def test_the_fair_error_of_the_ensemble_mean_is_less_its_variance_by_members():
    forecast, happened = _ensemble_pair(members=4)
    names = ("ensemble_mean_mse", "ensemble_variance", "ensemble_mean_mse_fair")
    found = _run(forecast, happened, metrics=names)["geopotential"]
    mse, variance, fair = (found.sel(metric=name) for name in names)
    np.testing.assert_allclose(fair, mse - variance / 4)
    assert (fair < mse).all()


def test_errors_are_those_of_plain_arrays():
    forecast, happened = samples.pair()
    found = _run(forecast, happened)["geopotential"].sel(model="forecast")
    ours, theirs, weights = _arrays(forecast, happened)
    for metric in ("rmse", "mse", "mae", "bias"):
        function = getattr(deterministic, metric)
        expected = function(ours, theirs, weights, axis=(0, 3, 4))
        values = found.sel(metric=metric, region="global").values
        np.testing.assert_allclose(values, expected, err_msg=metric)


def test_acc_and_activity_are_averaged_over_starts():
    forecast, happened = samples.pair()
    normal = happened.mean("time")
    found = evaluation.evaluate(
        forecast, happened, climatology=normal, metrics=("acc", "activity"),
        references=("climatology",), regions=("global",), confidence=0,
    )["geopotential"].sel(model="forecast", region="global")  # fmt: skip
    ours, theirs, weights = _arrays(forecast, happened)
    mean = normal["geopotential"].values
    expected = deterministic.anomaly_correlation(ours, theirs, mean, weights, (3, 4))
    np.testing.assert_allclose(found.sel(metric="acc"), expected.mean(0))
    for field, name in ((ours, "forecast"), (theirs, "truth")):
        expected = deterministic.activity(field, mean, weights, (3, 4)).mean(0)
        np.testing.assert_allclose(found.sel(metric=f"{name}_activity"), expected)


def test_scores_of_ensembles_are_those_of_plain_arrays():
    forecast, happened = _ensemble_pair()
    result = _run(forecast, happened, metrics=_ENSEMBLE)
    found = result["geopotential"].sel(model="forecast", region="global")
    members, truth, weights = _arrays(forecast, happened)
    members = np.moveaxis(members, 2, 0)
    over = (0, 3, 4)
    for fair in (False, True):
        expected = deterministic.weighted_mean(
            ensemble.crps(members, truth, fair=fair), weights, over
        )
        values = found.sel(metric="crps_fair" if fair else "crps").values
        np.testing.assert_allclose(values, expected)
    error = deterministic.rmse(members.mean(0), truth, weights, over)
    variance = deterministic.weighted_mean(ensemble.variance(members), weights, over)
    np.testing.assert_allclose(found.sel(metric="ensemble_mean_rmse"), error)
    np.testing.assert_allclose(found.sel(metric="ensemble_spread"), variance**0.5)
    ratio = np.sqrt(5 / 4 * variance) / error
    np.testing.assert_allclose(found.sel(metric="spread_skill_ratio"), ratio)
    point = (slice(None), 3, 1, 0)
    area = np.broadcast_to(weights, (8, 12)).ravel()
    scores = [
        ensemble.energy_score(
            members[(slice(None), init, *point[2:])].reshape(4, -1),
            truth[(init, *point[2:])].ravel(),
            area,
        )
        for init in range(12)
    ]
    value = found.sel(metric="energy_score").isel(lead_time=1, level=0)
    np.testing.assert_allclose(value, np.mean(scores))
    ranks = result["rank_histogram.geopotential"].sel(model="forecast")
    np.testing.assert_allclose(ranks.mean("rank"), 1)
    assert ranks["rank"].values.tolist() == [1, 2, 3, 4, 5]


def test_scores_of_events_follow_from_the_fields():
    forecast, happened = _ensemble_pair()
    result = _run(forecast, happened, metrics=_EVENTS, thresholds=_WARM,
                  neighbourhoods=(1, 3))  # fmt: skip
    members, truth, weights = _arrays(forecast, happened, "2m_temperature")
    members = np.moveaxis(members, 2, 0)
    chance, event = (members >= 282).mean(0), truth >= 282
    expected = deterministic.weighted_mean((chance - event) ** 2, weights, (0, 2, 3))
    brier = result["brier_score.2m_temperature"].sel(model="forecast", region="global")
    np.testing.assert_allclose(brier.sel(threshold="282"), expected)
    assert (result["brier_score_fair.2m_temperature"] <= brier + 1e-12).all()
    warm = members.mean(0) >= 282
    hits, misses, false = (
        (weights * (a & b)).sum((0, 2, 3))
        for a, b in ((warm, event), (~warm, event), (warm, ~event))
    )
    table = events.contingency_scores(hits, misses, false)
    for name, value in table.items():
        held = result[f"{name}.2m_temperature"].sel(threshold="282", region="global")
        np.testing.assert_allclose(held.sel(model="forecast"), value)
    fss = result["fss.2m_temperature"].sel(threshold="282", region="global")
    own = events.fss(warm[:, 0] * 1.0, event[:, 0] * 1.0, 3, weights, periodic=True)
    held = fss.sel(model="forecast", neighbourhood=3).isel(lead_time=0)
    np.testing.assert_allclose(held, own)
    shares = result["reliability_share.2m_temperature"].sum("probability")
    np.testing.assert_allclose(shares, 1)
    limit = np.quantile(happened["2m_temperature"], 0.2, axis=0)
    cold = ((members <= limit).mean(0) - (truth <= limit)) ** 2
    np.testing.assert_allclose(
        brier.sel(threshold="q0.2"),
        deterministic.weighted_mean(cold, weights, (0, 2, 3)),
    )


@functools.cache
def _whole(metrics):
    """Returns a forecast, settings and the result that is computed in one piece."""
    forecast = (
        samples.pair()[0]
        if metrics is _ALL
        else _ensemble_pair(3)[0].isel(time=slice(0, 4))
    )
    kwargs = {"metrics": metrics, "references": ("persistence", "climatology")}
    return forecast, kwargs, _run(forecast, samples.truth(), **kwargs)


@settings(max_examples=3)
@given(memory=st.integers(1, 2**18), workers=st.integers(1, 3))
def test_how_the_work_is_cut_does_not_change_the_result(memory, workers):
    for metrics in (_ALL, _ENSEMBLE):
        forecast, kwargs, whole = _whole(metrics)
        execution = evaluation.Execution(memory=memory, workers=workers)
        parts = _run(forecast, samples.truth(), execution=execution, **kwargs)
        xarray.testing.assert_allclose(parts, whole, rtol=1e-10)


def test_sums_of_two_periods_merge_to_those_of_both():
    forecast, happened = samples.pair()
    chosen = evaluation.Settings(metrics=_ALL, references=("persistence",),
                                 period=("2020-01-01", "2020-01-10"))  # fmt: skip
    whole = evaluation.accumulate(forecast, happened, chosen)
    first, second = (
        evaluation.accumulate(forecast.isel(time=part), happened, chosen)
        for part in (slice(0, 5), slice(5, None))
    )
    merged = second.merge(first)
    xarray.testing.assert_allclose(merged.results(), whole.results(), rtol=1e-10)
    assert merged.results().attrs["starts"] == whole.results().attrs["starts"] == "12"
    other = evaluation.accumulate(
        forecast, happened, evaluation.Settings(metrics=("mae",), references=())
    )
    with pytest.raises(ValueError, match="do not merge"):
        whole.merge(other)


def test_regions_that_part_the_globe_add_up_to_it():
    forecast, happened = samples.pair()
    mask = xarray.DataArray(
        np.random.default_rng(0).uniform(size=(8, 12)),
        {d: happened[d] for d in ("latitude", "longitude")},
    )
    chosen = evaluation.Settings(
        metrics=("mse",),
        references=(),
        regions=("global", "tropics", "extra-tropics", "land", "sea"),
    )
    found = evaluation.accumulate(forecast, happened, chosen, land_sea_mask=mask)
    sums = found.totals["forecast"].dataset["squared_error.geopotential"]
    whole = sums.sel(region="global", drop=True)
    for parts in (["tropics", "extra-tropics"], ["land", "sea"]):
        xarray.testing.assert_allclose(sums.sel(region=parts).sum("region"), whole)


def test_missing_values_are_left_out_and_counted():
    forecast, happened = samples.pair()
    broken = forecast.copy(deep=True)
    broken["2m_temperature"][:, :, :4] = np.nan
    broken["2m_temperature"][0, 0, 4, 0] = np.inf
    found = _run(broken, happened)
    assert "forecast: 1729 values are missing or infinite" in found.attrs["notes"]
    ours, theirs, weights = _arrays(broken, happened, "2m_temperature")
    ours[~np.isfinite(ours)] = np.nan
    expected = deterministic.mae(ours, theirs, weights, (0, 2, 3))
    values = found["2m_temperature"].sel(metric="mae", region="global")
    np.testing.assert_allclose(values.squeeze(), expected)


def test_work_on_dask_arrays_and_on_a_cluster_gives_the_same():
    import distributed

    forecast, happened = samples.pair()
    chunked = forecast.chunk(time=5), happened.chunk(time=7)
    whole = _run(forecast, happened, metrics=_ALL)
    xarray.testing.assert_allclose(_run(*chunked, metrics=_ALL), whole, rtol=1e-10)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        execution = evaluation.Execution(
            memory=2**16, scheduler=cluster.scheduler_address
        )
        found = _run(*chunked, metrics=_ALL, execution=execution)
    xarray.testing.assert_allclose(found, whole, rtol=1e-10)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    import distributed

    def refuse(address, timeout):
        raise OSError(f"timed out after {timeout}")

    monkeypatch.setattr(distributed, "Client", refuse)
    execution = evaluation.Execution(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:9: cannot be reached"):
        _run(*samples.pair(), execution=execution)


def test_models_are_compared_on_what_they_share():
    forecast, happened = samples.pair()
    worse = samples.forecasts(happened, noise=0.6, seed=3).isel(
        time=slice(2, None), prediction_timedelta=[0, 1]
    )
    found = evaluation.evaluate(
        {"good": forecast, "bad": worse}, happened, references=("persistence",)
    )
    assert found["model"].values.tolist() == ["good", "bad", "persistence"]
    assert found.sizes["lead_time"] == 2 and found.attrs["starts"] == "10"
    assert "2 of 12 values of init_time are not in all" in found.attrs["notes"]
    at = {"metric": "rmse", "model": "bad", "region": "global"}
    name = "geopotential"
    assert (found[f"difference.{name}"].sel(at) > 0).all()
    assert (found[f"difference_lower.{name}"].sel(at) > 0).all()
    assert (found[f"p_value.{name}"].sel(at) < 0.05).all()
    low, value, high = (
        found[n].sel(at) for n in (f"lower.{name}", name, f"upper.{name}")
    )
    assert ((low <= value) & (value <= high)).all()


def test_every_start_can_be_kept():
    forecast, happened = samples.pair()
    found = _run(forecast, happened, metrics=("mse",), by_start=True)
    each = found["by_start.geopotential"].sel(metric="mse")
    xarray.testing.assert_allclose(
        each.mean("init_time"), found["geopotential"].sel(metric="mse")
    )


def test_real_ensembles_can_be_scored():
    eda = data.open_dataset(
        samples.real("grib/era5_eda_10members_3deg_z_t_500_850_20170101-02.grib")
    )
    # Any perturbed member may stand for the truth of the others.
    truth = eda.isel(number=3, drop=True)
    others = eda.isel(number=[1, 2, 4, 5, 6, 7, 8, 9])
    found = _run(others, truth, metrics=_ENSEMBLE)
    values = found["geopotential"].sel(model="forecast", region="global")
    crps = values.sel(metric="crps_fair")
    spread = values.sel(metric="ensemble_spread")
    assert ((crps > 4) & (crps < 50)).all() and (spread > crps).all()
    ratio = values.sel(metric="spread_skill_ratio")
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    ranks = found["rank_histogram.geopotential"]
    assert ranks.sizes["rank"] == 9
    np.testing.assert_allclose(ranks.mean("rank"), 1)
    np.testing.assert_allclose(ranks, 1, atol=0.35)


def test_a_plane_without_degrees_can_be_scored():
    generator = np.random.default_rng(0)
    times = np.datetime64("2020-01-01", "ns") + np.arange(8) * np.timedelta64(5, "m")
    rain = xarray.Dataset(
        {"rain": (("time", "y", "x"), generator.gamma(0.5, size=(8, 20, 24)))},
        {"time": times},
    )
    leads = (np.arange(1, 4) * np.timedelta64(5, "m")).astype("timedelta64[ns]")
    forecast = rain.isel(time=slice(0, 5)).expand_dims(
        prediction_timedelta=leads, axis=1
    )
    found = evaluation.evaluate(
        forecast,
        rain,
        metrics=(
            *("csi", "pod", "sucr", "fss", "rmse"),
            *("hss", "sevir_bias", "radial_spectrum"),
        ),
        thresholds={"rain": (evaluation.parse_threshold(0.5),)},
        references=("persistence",),
    )
    assert found["region"].values.tolist() == ["domain"]
    csi = found["csi.rain"]
    assert ((csi > 0) & (csi < 1)).all()
    same = csi.sel(model="forecast", drop=True)
    xarray.testing.assert_equal(same, csi.sel(model="persistence", drop=True))
    assert ((found["hss.rain"] > -0.5) & (found["hss.rain"] < 1)).all()
    assert (found["sevir_bias.rain"] > 0).all()
    spectrum = found["truth_radial_spectrum.rain"].sel(model="forecast")
    valid = rain["rain"].values[1:6]
    np.testing.assert_allclose(
        spectrum.isel(lead_time=0), spectra.radial_power(valid).mean(0)
    )
    np.testing.assert_array_equal(spectrum["radial_wavenumber"], np.arange(1, 11))


def test_a_part_of_the_globe_has_spectra_by_length(tmp_path):
    part = {"latitude": slice(9, 16), "longitude": slice(3, 14)}
    happened = samples.truth(rows=18, columns=36).isel(part)  # 7 x 11 cells of 10°.
    forecast = samples.forecasts(happened)
    names = ("rmse", "radial_spectrum")
    found = _run(forecast, happened, metrics=names, regions=("domain",))
    spectrum = found["truth_radial_spectrum.2m_temperature"].squeeze("model")
    theirs = _arrays(forecast, happened, "2m_temperature")[1]
    cell = (1111.95, 1111.95 * np.cos(np.deg2rad(35)))
    np.testing.assert_allclose(spectrum, spectra.radial_power(theirs, cell).mean(0))
    waves = np.arange(1, 4)
    np.testing.assert_array_equal(found["radial_wavenumber"], waves)
    side = 7 * cell[0]
    np.testing.assert_allclose(found["wavelength_km"], side / waves, rtol=1e-5)
    path = evaluation.write_results(found, tmp_path / "scores.nc")
    xarray.testing.assert_identical(evaluation.open_results(path), found)
    with pytest.raises(ValueError, match="needs a plane, or an evenly spaced grid"):
        _run(*samples.pair(), metrics=names)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d.assign_coords(time=d["time"] + np.timedelta64(999, "D")), {},
         "no valid time of the forecasts is in the truth"),
        (lambda d: d.assign_coords(latitude=d["latitude"] + 1), {}, "regrid one"),
        (lambda d: d.isel(latitude=slice(1, None)).assign_coords(
            longitude=d["longitude"] + 1), {}, "regrid one"),
        (lambda d: d.assign_coords(level=[300.0, 700.0]), {}, "no level in common"),
        (lambda d: d.rename(geopotential="a", **{"2m_temperature": "b"}), {},
         "share no variable"),
        (lambda d: d, {"variables": ("geopotentiel",)}, "did you mean geopotential"),
        (lambda d: d, {"levels": (700.0,)}, "no level 700 hPa"),
        (lambda d: d, {"metrics": ("rsme",)}, "no metric 'rsme'"),
        (lambda d: d, {"metrics": ("crps_fair",)}, "needs an ensemble"),
        (lambda d: d, {"metrics": ("csi",)}, "needs thresholds"),
        (lambda d: d, {"metrics": ("radial_spectrum",)}, "needs a plane"),
        (lambda d: d, {"references": ("magic",)}, "no reference 'magic'"),
        (lambda d: d, {"regions": ("mars",)}, "not known"),
        (lambda d: d, {"confidence": 2.0}, "below 1"),
        (lambda d: d, {"period": ("x", "y")}, "two dates"),
        (lambda d: d, {"period": ("2021-01-01", "2020-01-01")}, "not before"),
        (lambda d: d, {"neighbourhoods": (0,)}, "at least 1 point"),
        (lambda d: d, {"resamples": 0}, "at least 1"),
        (lambda d: d, {"penalty": 0.0}, "above 0"),
        (lambda d: d, {"thresholds": {"rain": _WARM["2m_temperature"]}},
         "which is not evaluated"),
        (lambda d: d, {"thresholds": {"rain": (1.0,)}}, "parse_threshold"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_says_why(change, options, message):
    forecast, happened = samples.pair()
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(change(forecast), happened, **options)


def test_one_name_for_two_things_is_refused():
    forecast, happened = samples.pair()
    with pytest.raises(ValueError, match="another name"):
        evaluation.evaluate({"persistence": forecast}, happened)
    with pytest.raises(ValueError, match="no forecast"):
        evaluation.evaluate({}, happened)
    with pytest.raises(ValueError, match="at least 1"):
        evaluation.Execution(workers=0)
