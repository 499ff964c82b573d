import csv

import numpy as np
import pytest
import xarray

from tests.evaluation import samples
from weatherlib import evaluation
from weatherlib.evaluation import metrics


def _result(**options):
    forecast, happened = samples.pair()
    options = {"resamples": 50, **options}
    return evaluation.evaluate(forecast, happened, **options)


def test_results_have_the_form_of_weatherbench():
    found = _result()
    assert found["geopotential"].dims == (
        "metric", "model", "region", "lead_time", "level",
    )  # fmt: skip
    assert found["lead_time"].dtype == "timedelta64[ns]"
    assert found["starts"].values.tolist() == [12, 12, 12]
    assert found["geopotential"].attrs["units"] == "m2 s-2"
    assert "flatters climatology" in found.attrs["notes"]


@pytest.mark.parametrize("metric", ["power_spectrum", "zonal_spectrum"])
def test_spectra_alone_have_no_intervals_and_say_so(metric):
    found = _result(metrics=(metric,), references=(), by_start=True)
    assert f"truth_{metric}.geopotential" in found
    assert not [name for name in found.data_vars if str(name).startswith("lower.")]
    assert "no confidence intervals: spectra" in found.attrs["notes"]
    assert "confidence" not in found.attrs


@pytest.mark.parametrize("metric", ["rmse", "acc"])
def test_models_are_compared_on_the_starts_that_both_have(metric):
    forecast, happened = samples.pair()
    worse = forecast.copy(deep=True)
    worse["2m_temperature"][6:] += 10 * np.sin(np.arange(12))
    gap = worse.copy(deep=True)
    gap["2m_temperature"][6:9, 1] = np.nan  # Whole fields at one lead time.
    gap["2m_temperature"][9:, 1, :4] = np.nan  # Some rows.
    found = evaluation.evaluate(
        {"first": gap, "same": worse, "good": forecast}, happened, metrics=(metric,),
        references=(), variables=("2m_temperature",), resamples=50,
        climatology=happened.mean("time"), regions=("global",),
    )  # fmt: skip
    at = {"metric": metric, "region": "global"}
    same = {"model": "same", **at}
    values = found["2m_temperature"].sel(at)
    assert not np.isclose(*values.sel(model=["first", "same"])[:, 1])
    for kind in ("difference", "difference_lower", "difference_upper"):
        np.testing.assert_allclose(found[f"{kind}.2m_temperature"].sel(same), 0)
    np.testing.assert_array_equal(found["p_value.2m_temperature"].sel(same), 1)
    good = found["difference.2m_temperature"].sel(model="good", **at)
    own = values.sel(model="good") - values.sel(model="first")
    np.testing.assert_allclose(good[[0, 2]], own[[0, 2]])
    np.testing.assert_allclose(good[1], 0)
    notes = found.attrs["notes"]
    assert "same: differences from first leave out 6 of 12 starts, at lead" in notes
    assert "good: differences from first leave out 6 of 12 starts" in notes
    # The climatology has no ACC, which is no gap.
    found = evaluation.evaluate(
        {"good": forecast}, happened, metrics=("acc",), references=("climatology",),
        variables=("2m_temperature",), climatology=happened.mean("time"),
    )  # fmt: skip
    assert "leave out" not in found.attrs["notes"]


def test_written_results_are_read_as_they_were(tmp_path):
    found = _result(metrics=("rmse", "power_spectrum", "acc"), by_start=True)
    path = evaluation.write_results(found, tmp_path / "scores.nc")
    xarray.testing.assert_identical(evaluation.open_results(path), found)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.nc"]
    with pytest.raises(FileNotFoundError, match="no folder"):
        evaluation.write_results(found, tmp_path / "no" / "scores.nc")


def test_published_scores_of_gencast_are_read_and_agree_with_our_formulas():
    found = evaluation.open_results(
        samples.real("scores/gencast_1deg_era5_ensemble_metrics.nc")
    )
    days = found["lead_time"].values / np.timedelta64(1, "D")
    assert days.tolist() == list(range(1, 11))
    z500 = found["geopotential"].sel(level=500).squeeze("model")
    mse, variance = z500.sel(metric="mse"), z500.sel(metric="ensemble_variance")
    ratio = np.sqrt(51 / 50 * variance / mse)
    np.testing.assert_allclose(ratio, z500.sel(metric="spread_skill_ratio"), rtol=1e-3)
    fair = np.sqrt(mse - variance / 50)
    expected = z500.sel(metric="ensemble_mean_rmse_fair")
    np.testing.assert_allclose(fair, expected, rtol=1e-5)
    assert {"2m_temperature", "u_component_of_wind"} <= set(found.data_vars)


def test_published_histograms_and_brier_scores_are_read():
    ranks = evaluation.open_results(
        samples.real("scores/gencast_1deg_era5_rank_histogram_50_members.nc")
    )["rank_histogram.geopotential"]
    assert ranks.sel(level=500).squeeze("model").dims == ("lead_time", "rank")
    np.testing.assert_allclose(ranks.mean("rank"), 1, rtol=1e-5)
    brier = evaluation.open_results(
        samples.real("scores/gencast_1deg_era5_brier_skill_score.nc")
    )["brier_score.temperature"]
    assert "q0.99" in brier["threshold"].values


def test_results_of_weatherbench_x_are_read(tmp_path):
    lead = np.array([6, 12]) * 3600 * 10**9
    made = xarray.Dataset(
        {
            "rmse.2m_temperature": ("lead_time", [1.0, 2.0]),
            "bias.2m_temperature": ("lead_time", [0.1, 0.2]),
        },
        {"lead_time": lead},
    )
    made.to_netcdf(tmp_path / "wbx.nc")
    found = evaluation.open_results(tmp_path / "wbx.nc")
    assert found["2m_temperature"].sel(metric="rmse", model="wbx").values.tolist() == [
        1,
        2,
    ]
    hours = found["lead_time"].values / np.timedelta64(1, "h")
    assert hours.tolist() == [6, 12]


def _ensemble_file(path, names, **attrs):
    lead = np.array([6, 12]) * 3600 * 10**9
    values = np.arange(2.0 * len(names)).reshape(len(names), 2)
    xarray.Dataset(
        {"2m_temperature": (("metric", "lead_time"), values)},
        {"metric": list(names), "lead_time": lead},
        attrs,
    ).to_netcdf(path)
    return evaluation.open_results(path)["2m_temperature"]


def test_fair_scores_of_weatherbench_2_are_not_taken_for_biased_ones(tmp_path):
    names = ("crps", "crps_spread", "debiased_ensemble_mean_mse", "energy_score")
    found = _ensemble_file(tmp_path / "parts.nc", names)
    assert found["metric"].values.tolist() == [
        "crps_fair", "crps_spread", "ensemble_mean_mse_fair", "energy_score_fair",
    ]  # fmt: skip
    assert "ensemble_mean_mse_fair" in evaluation.METRICS
    found = _ensemble_file(tmp_path / "size.nc", ("crps",), ensemble_size=50)
    assert found["metric"].values.tolist() == ["crps_fair"]
    # Nothing tells these: ArchesWeather's and ours are biased under this name.
    found = _ensemble_file(tmp_path / "plain.nc", ("crps", "fcrps"))
    assert found["metric"].values.tolist() == ["crps", "crps_fair"]


def test_the_crps_of_weatherbench_x_is_a_fair_one(tmp_path):
    lead = np.array([6, 12]) * 3600 * 10**9
    made = {"crps.2m_temperature": ("lead_time", [1.0, 2.0]),
            "rmse.2m_temperature": ("lead_time", [3.0, 4.0])}  # fmt: skip
    xarray.Dataset(made, {"lead_time": lead}).to_netcdf(tmp_path / "wbx.nc")
    found = evaluation.open_results(tmp_path / "wbx.nc")["2m_temperature"]
    assert found.sel(metric="crps_fair", model="wbx").values.tolist() == [1, 2]
    assert set(found["metric"].values) == {"crps_fair", "rmse"}


def test_files_that_hold_no_scores_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of scores"):
        evaluation.open_results(tmp_path / "no.nc")
    (tmp_path / "text.nc").write_text("text")
    with pytest.raises(OSError, match="cannot be read"):
        evaluation.open_results(tmp_path / "text.nc")
    samples.truth(2).to_netcdf(tmp_path / "weather.nc")
    with pytest.raises(ValueError, match="no scores by lead time"):
        evaluation.open_results(tmp_path / "weather.nc")


def test_the_spreadsheet_has_a_line_for_each_score(tmp_path):
    found = _result(metrics=("rmse", "zonal_spectrum"))
    path = evaluation.write_csv(found, tmp_path / "scores.csv")
    with path.open(encoding="utf8") as file:
        lines = list(csv.DictReader(file))
    plain = [x for x in lines if x["metric"] == "rmse"]
    assert len(plain) == 3 * 4 * 3 * (2 + 1)
    one = next(
        x for x in plain if x["variable"] == "geopotential" and x["level"] == "850"
        and x["model"] == "persistence" and x["lead_hours"] == "24"
        and x["region"] == "tropics"
    )  # fmt: skip
    at = {"metric": "rmse", "model": "persistence", "region": "tropics", "level": 850}
    for column, name in (("value", "geopotential"), ("lower", "lower.geopotential"),
                         ("difference", "difference.geopotential")):  # fmt: skip
        value = float(found[name].sel(at).isel(lead_time=1))
        assert float(one[column]) == pytest.approx(value, rel=1e-6)
    assert one["units"] == "m2 s-2"
    waves = {x["wavenumber"] for x in lines if x["metric"] == "forecast_zonal_spectrum"}
    assert waves == set(map(str, range(7)))


@pytest.mark.parametrize(
    ("metric", "units", "expected"),
    [
        ("rmse", "K", "K"),
        ("mse", "K", "K2"),
        ("mse", "m2 s-2", "m4 s-4"),
        ("mse", "kg m**-2 s**-1", "kg2 m-4 s-2"),
        ("mse", "1", "1"),
        ("mse", "(0 - 1)", "((0 - 1))2"),
        ("mse", "", ""),
        ("acc", "K", ""),
        ("truth_power_spectrum", "m s-1", "m2 s-2"),
        ("unheard_of", "K", ""),
    ],
)
def test_a_metric_has_its_power_of_the_unit(metric, units, expected):
    assert metrics.units_of(metric, units) == expected


def test_tables_and_spreadsheets_name_the_unit_of_each_metric(tmp_path):
    names = ("rmse", "mse", "acc", "fss", "zonal_spectrum")
    warm = {"2m_temperature": (evaluation.parse_threshold("281"),)}
    found = _result(metrics=names, thresholds=warm, by_start=True)
    for metric, unit in (("rmse", "K"), ("mse", "K2"), ("acc", "")):
        rows = evaluation.score_rows(found, metric)[1]
        assert {row[1] for row in rows if row[0] == "2m_temperature"} == {unit}
    path = evaluation.write_csv(found, tmp_path / "scores.csv")
    with path.open(encoding="utf8") as file:
        lines = [x for x in csv.DictReader(file) if x["variable"] == "2m_temperature"]
    assert {(x["metric"], x["units"]) for x in lines} == {
        ("rmse", "K"), ("mse", "K2"), ("acc", ""), ("fss", ""),
        ("forecast_zonal_spectrum", "K2"), ("truth_zonal_spectrum", "K2"),
    }  # fmt: skip


def test_the_table_marks_what_differs_beyond_chance():
    heading, rows = evaluation.score_rows(_result(), "rmse")
    assert heading == ["variable", "unit", "model", "+12 h", "+24 h", "+36 h"]
    assert [row[0] for row in rows[:4]] == [
        "geopotential 500", "geopotential 500", "geopotential 500", "geopotential 850",
    ]  # fmt: skip
    assert [row[2] for row in rows[:3]] == ["forecast", "persistence", "climatology"]
    assert not any("*" in cell for cell in rows[0])
    assert any("*" in cell for cell in rows[1])
    assert evaluation.score_rows(_result(), "acc")[1] == []


def test_the_table_holds_events_by_threshold_and_units_of_the_metric():
    found = _result(
        metrics=("mse", "fss"),
        thresholds={"2m_temperature": (evaluation.parse_threshold("282"),)},
        neighbourhoods=(1, 3),
    )
    squares = evaluation.score_rows(found, "mse")[1]
    assert {row[1] for row in squares} == {"m4 s-4", "K2"}
    events = evaluation.score_rows(found, "fss")[1]
    assert [row[:3] for row in events[::3]] == [
        [f"2m_temperature, threshold 282, neighbourhood {n}", "", "forecast"]
        for n in (1, 3)
    ]
    at = {"threshold": "282", "neighbourhood": 3, "model": "persistence"}
    expected = found["fss.2m_temperature"].sel(at)[{"region": 0}].values
    shown = [float(cell.rstrip("*")) for cell in events[4][3:]]
    np.testing.assert_allclose(shown, expected, rtol=1e-3)
    assert any("*" in cell for row in events for cell in row)
