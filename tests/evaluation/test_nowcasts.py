import numpy as np
import pytest
import scores.categorical
import scores.probability
import xarray

from weatherlib.data import radar_sequences, radar_series, synthetic
from weatherlib.evaluation import (
    deterministic,
    ensemble,
    events,
    nowcast_references,
    nowcast_scores,
    nowcasts,
    sevir_skill,
    spectra,
)

_SMALL = nowcasts.NowcastConfig(
    thresholds=(16.0, 74.0), pools=(1, 4), neighbourhoods=(1, 5)
)


@pytest.fixture(scope="module")
def samples():
    series = synthetic.synthetic_radar(frames=24, rows=48, columns=48, seed=4)
    config = radar_sequences.SequenceConfig(inputs=4, targets=3, stride=3)
    return radar_series.series_sequences(series, config)


def _case(members=0, batch=4, leads=3, side=24, seed=0):
    """Returns forecasts and truth with dry parts and values at thresholds."""
    generator = np.random.default_rng(seed)
    truth = np.rint(generator.gamma(0.6, 60, (batch, leads, side, side))).clip(0, 254)
    shape = (*([members] if members else []), *truth.shape)
    forecast = truth + generator.normal(0, 25, shape)
    return forecast.clip(0, 254) * (truth > 5), truth


def _scored(forecast, truth, config=_SMALL, **options):
    members = len(forecast) if forecast.ndim == 5 else 1
    found = nowcasts.NowcastScores(truth.shape[1], members=members, config=config)
    found.update(forecast, truth)
    return found.results(**options)


def test_scores_of_single_forecasts_are_those_of_arrays():
    forecast, truth = _case()
    found = _scored(forecast, truth)
    axes = (0, 2, 3)
    for name in ("rmse", "mae", "mse", "bias"):
        expected = getattr(deterministic, name)(forecast, truth, axis=axes)
        np.testing.assert_allclose(found[name], expected)
    # Of a single forecast it is the absolute error.
    np.testing.assert_allclose(found["crps"], found["mae"])
    for number, limit in enumerate((16, 74)):
        for size in (1, 5):
            for lead in range(3):
                expected = events.fss(
                    (forecast[:, lead] >= limit).astype(float),
                    (truth[:, lead] >= limit).astype(float),
                    size,
                )
                value = found["fss"].isel(lead_time=lead, threshold=number)
                np.testing.assert_allclose(value.sel(neighbourhood=size), expected)


def test_scores_of_events_are_those_of_the_scores_package():
    forecast, truth = _case()
    found = _scored(forecast, truth)
    for limit in (16.0, 74.0):
        table = scores.categorical.ThresholdEventOperator(
            default_event_threshold=limit
        ).make_contingency_manager(
            xarray.DataArray(forecast[:, 1]), xarray.DataArray(truth[:, 1])
        )
        ours = found.sel(pool=1, threshold=limit).isel(lead_time=1)
        for name, value in {
            "csi": table.critical_success_index(),
            "pod": table.probability_of_detection(),
            "sucr": table.success_ratio(),
            "far": table.false_alarm_ratio(),
            "frequency_bias": table.frequency_bias(),
            "hss": table.heidke_skill_score(),
        }.items():
            np.testing.assert_allclose(ours[name], float(value), err_msg=name)


def test_pooled_scores_and_means_over_leads_are_the_published_ones():
    forecast, truth = _case(side=32)
    config = nowcasts.NowcastConfig(pools=(1, 4, 16))
    whole = _scored(forecast, truth, config, over_leads=True)
    each = _scored(forecast, truth, config)
    for pool in (1, 4, 16):
        for mode, ours in ((0, whole), (1, each)):
            skill = sevir_skill.SevirSkill(mode, leads=3 * mode, pool=pool, eps=0.0)
            with np.errstate(invalid="ignore"):
                skill.update(
                    radar_sequences.to_unit(forecast), radar_sequences.to_unit(truth)
                )
                published = skill.compute()
            for name, theirs in (
                ("csi", "csi"),
                ("pod", "pod"),
                ("sucr", "sucr"),
                ("sevir_bias", "bias"),
            ):
                for limit in sevir_skill.THRESHOLDS:
                    np.testing.assert_allclose(
                        ours[name].sel(pool=pool, threshold=limit),
                        published[limit][theirs],
                        rtol=1e-6,
                    )


def test_means_over_thresholds_are_the_published_ones():
    """Also where nothing reaches the last threshold, whose scores count as 0."""
    forecast, truth = _case(side=32)
    limits = (*sevir_skill.THRESHOLDS, 255)
    skill = sevir_skill.SevirSkill(0, thresholds=limits)
    skill.update(radar_sequences.to_unit(forecast), radar_sequences.to_unit(truth))
    published = skill.compute()
    config = nowcasts.NowcastConfig(pools=(1,), thresholds=limits)
    found = _scored(forecast, truth, config, over_leads="both")
    for name in ("csi", "pod", "sucr"):
        mean = float(found[f"{name}_mean_over_leads"].sel(pool=1))
        assert mean == pytest.approx(published["avg"][name], rel=1e-5)
        each = found[name].fillna(0).mean("threshold")
        np.testing.assert_allclose(found[f"{name}_mean"], each)
    reached = np.mean([published[limit]["bias"] for limit in limits[:-1]])
    bias = float(found["sevir_bias_mean_over_leads"].sel(pool=1))
    assert bias == pytest.approx(reached, rel=1e-4)


def test_scores_over_all_leads_stand_beside_those_of_each():
    forecast, truth = _case(members=3)
    both = _scored(forecast, truth, over_leads="both")
    for ending, part in (("", False), (nowcast_scores.OVER_LEADS, True)):
        alone = _scored(forecast, truth, over_leads=part)
        for name, score in alone.items():
            np.testing.assert_array_equal(both[f"{name}{ending}"], score)
            assert both[f"{name}{ending}"].attrs == score.attrs
    assert "lead_time" not in both["rank_histogram_over_leads"].dims


def test_scores_of_ensembles_are_those_of_arrays():
    forecast, truth = _case(members=5)
    found = _scored(forecast, truth)
    for fair, name in ((False, "crps"), (True, "crps_fair")):
        expected = ensemble.crps(forecast, truth, fair=fair).mean((0, 2, 3))
        np.testing.assert_allclose(found[name], expected)
        method = "fair" if fair else "ecdf"
        theirs = scores.probability.crps_for_ensemble(
            xarray.DataArray(forecast[:, :, 0], dims=("member", "b", "y", "x")),
            xarray.DataArray(truth[:, 0], dims=("b", "y", "x")),
            "member",
            method=method,
        )
        np.testing.assert_allclose(found[name][0], float(theirs))
    spread = np.sqrt(forecast.var(0, ddof=1).mean((0, 2, 3)))
    np.testing.assert_allclose(found["ensemble_spread"], spread)
    error = np.sqrt(((forecast.mean(0) - truth) ** 2).mean((0, 2, 3)))
    np.testing.assert_allclose(found["rmse"], error)
    ratio = np.sqrt(6 / 5) * spread / error
    np.testing.assert_allclose(found["spread_skill_ratio"], ratio)
    chance = (forecast >= 74).mean(0)
    event = truth >= 74
    brier = ((chance - event) ** 2).mean((0, 2, 3))
    np.testing.assert_allclose(found["brier_score"].sel(threshold=74), brier)
    for number in range(11):
        inside = np.rint(chance * 10) == number
        for lead in range(3):
            value = (
                found["reliability"]
                .sel(threshold=74)
                .isel(lead_time=lead, probability=number)
            )
            held = inside[:, lead]
            expected = event[:, lead][held].mean() if held.any() else np.nan
            np.testing.assert_allclose(value, expected)


def test_only_a_nowcast_that_asks_for_it_is_handed_the_truth(samples):
    class Oracle:
        needs_truth = True

        def __call__(self, context, leads, truth):
            return truth

    found = {"oracle": Oracle(), "persistence": nowcast_references.persistence}
    scores = nowcasts.evaluate_nowcasts(found, samples, _SMALL, numbers=[0, 1])
    np.testing.assert_array_equal(scores["rmse"].sel(model="oracle"), 0)
    assert (scores["rmse"].sel(model="persistence") > 0).all()


def test_ranks_of_a_perfect_ensemble_are_even():
    generator = np.random.default_rng(0)
    values = generator.gamma(0.6, 60, (5, 20, 1, 32, 32))
    # A third is dry everywhere: ties are drawn.
    values[..., :10] = 0
    found = _scored(values[1:], values[0])
    np.testing.assert_allclose(found["rank_histogram"], 1, atol=0.05)
    assert list(found["rank"].values) == [1, 2, 3, 4, 5]
    narrow = _scored(values[1:] * 0.01, values[0])["rank_histogram"][0]
    assert narrow[-1] > 1.5


def test_spectra_show_blur():
    generator = np.random.default_rng(0)
    truth = generator.gamma(0.6, 60, (3, 2, 32, 32))
    members = generator.gamma(0.6, 60, (8, 3, 2, 32, 32))
    found = _scored(members, truth)
    ours = found["forecast_radial_spectrum"]
    np.testing.assert_allclose(
        found["truth_radial_spectrum"],
        spectra.radial_power(truth).mean(0),
    )
    # Members of the same kind as the truth keep its power, their mean has an eighth.
    ratio = (ours / found["truth_radial_spectrum"]).mean()
    np.testing.assert_allclose(ratio, 1, atol=0.15)
    blurred = (found["mean_radial_spectrum"] / ours).mean()
    np.testing.assert_allclose(blurred, 1 / 8, atol=0.03)
    np.testing.assert_allclose(found["wavelength_km"][[0, -1]], [32, 2])


def test_without_neighbourhoods_there_is_no_fractions_skill_score():
    forecast, truth = _case()
    found = _scored(forecast, truth, _SMALL.replace(neighbourhoods=()))
    assert "fss" not in found
    whole = _scored(forecast, truth)
    np.testing.assert_array_equal(found["csi"], whole["csi"])


def test_what_is_missing_counts_nowhere():
    forecast, truth = _case(members=3)
    holed = truth.copy()
    holed[:, :, :6] = np.nan
    found = _scored(forecast, holed)
    cut = _scored(forecast[..., 6:, :], truth[..., 6:, :])
    for name in ("rmse", "crps_fair", "rank_histogram", "hss", "brier_score"):
        ours, expected = found[name], cut[name]
        if "pool" in ours.dims:
            ours, expected = ours.sel(pool=1), expected.sel(pool=1)
        if name == "rank_histogram":
            # Ties are drawn, of other points.
            np.testing.assert_allclose(ours, expected, atol=0.1)
        else:
            np.testing.assert_allclose(ours, expected)
    assert "missing" not in found.attrs
    broken = forecast.copy()
    broken[0, 0, 0, 0, :5] = np.nan
    assert _scored(broken, truth).attrs["missing"] == 5


def test_updates_in_any_number_and_merged_sums_give_the_same():
    forecast, truth = _case(members=4, batch=6)
    whole = nowcasts.NowcastScores(3, members=4, config=_SMALL)
    whole.update(forecast, truth)
    parts = [nowcasts.NowcastScores(3, members=4, config=_SMALL) for _ in range(2)]
    for number in range(6):
        part = slice(number, number + 1)
        parts[number // 4].update(forecast[:, part], truth[part])
    parts[0].merge(parts[1])
    assert parts[0].samples == whole.samples == 6
    for name, expected in whole.results().items():
        if name != "rank_histogram":
            np.testing.assert_allclose(
                parts[0].results()[name], expected, rtol=1e-9, err_msg=name
            )
    empty = nowcasts.NowcastScores(3, members=4, config=_SMALL)
    empty.merge(whole)
    xarray.testing.assert_allclose(empty.results(), whole.results())
    with pytest.raises(ValueError, match="do not merge"):
        whole.merge(nowcasts.NowcastScores(3, members=5, config=_SMALL))


def test_ranks_depend_on_the_seed_alone():
    forecast, truth = _case(members=3)
    one, again, other = (
        _scored(forecast * 0, truth * 0, _SMALL.replace(seed=seed))["rank_histogram"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_models_and_references_go_through_the_same_evaluation(samples):
    def drawn(context, leads):
        noise = np.random.default_rng(0).normal(0, 10, (3, *context[:, :leads].shape))
        return nowcast_references.persistence(context, leads)[None] + noise

    seen = []
    found = nowcasts.evaluate_nowcasts(
        {
            "drawn": drawn,
            "persistence": nowcast_references.persistence,
            "extrapolation": nowcast_references.Extrapolation(),
        },
        samples,
        _SMALL,
        batch_size=3,
        progress=lambda done, total, seconds: seen.append((done, total)),
    )
    assert found["model"].values.tolist() == [
        "drawn",
        "drawn (members)",
        "persistence",
        "extrapolation",
    ]
    assert found["members"].values.tolist() == [3, 1, 1, 1]
    assert seen == [(3, 6), (6, 6)]
    assert found.attrs["samples"] == 6
    minutes = found["lead_time"].values / np.timedelta64(1, "m")
    np.testing.assert_array_equal(minutes, [5, 10, 15])
    rmse = found["rmse"].mean("lead_time")
    assert rmse.sel(model="drawn") < rmse.sel(model="drawn (members)")
    # What moves is better moved on.
    assert rmse.sel(model="extrapolation") < 0.9 * rmse.sel(model="persistence")
    csi = found["csi"].sel(pool=1, threshold=16).mean("lead_time")
    assert csi.sel(model="extrapolation") > csi.sel(model="persistence") + 0.05
    assert np.isfinite(found["rank_histogram"].sel(model="drawn")).all()
    assert np.isnan(found["rank_histogram"].sel(model="persistence")).all()
    alone = nowcasts.evaluate_nowcasts(
        {"persistence": nowcast_references.persistence}, samples, _SMALL
    )
    np.testing.assert_allclose(
        alone["csi"].isel(model=0), found["csi"].sel(model="persistence")
    )


def test_chosen_samples_and_sums_over_leads(samples):
    models = {"persistence": nowcast_references.persistence}
    whole = nowcasts.evaluate_nowcasts(
        models, samples, _SMALL, numbers=[1, 4], over_leads=True
    )
    assert "lead_time" not in whole.dims
    assert whole.attrs["samples"] == 2
    each = nowcasts.evaluate_nowcasts(models, samples, _SMALL, numbers=[1, 4])
    np.testing.assert_allclose(whole["mse"], each["mse"].mean("lead_time"))


def test_missing_pixels_of_a_model_are_noted(samples):
    def holed(context, leads):
        found = nowcast_references.persistence(context, leads)
        found[:, :, :2] = np.nan
        return found

    found = nowcasts.evaluate_nowcasts({"holed": holed}, samples, _SMALL)
    assert f"holed: {6 * 3 * 2 * 48} pixels" in found.attrs["notes"]


@pytest.mark.parametrize(
    ("forecast", "truth", "message"),
    [
        (np.zeros((2, 3, 8, 8)), np.zeros((2, 3, 8, 9)), "expected forecasts"),
        (np.zeros((3, 8, 8)), np.zeros((3, 8, 8)), "expected forecasts"),
        (np.zeros((2, 4, 8, 8)), np.zeros((2, 4, 8, 8)), r"4 lead\(s\) were given"),
        (np.zeros((2, 2, 3, 8, 8)), np.zeros((2, 3, 8, 8)), r"2 member\(s\)"),
        (np.zeros((2, 3, 4, 4)), np.zeros((2, 3, 4, 4)), "4 x 4, those before"),
    ],
)
def test_forecasts_that_do_not_fit_are_refused(forecast, truth, message):
    found = nowcasts.NowcastScores(3, config=_SMALL)
    found.update(np.zeros((1, 3, 8, 8)), np.zeros((1, 3, 8, 8)))
    with pytest.raises(ValueError, match=message):
        found.update(forecast, truth)


def test_nothing_to_score_is_an_error(samples):
    with pytest.raises(ValueError, match="no forecast was added"):
        nowcasts.NowcastScores(3).results()
    with pytest.raises(ValueError, match="at least 1"):
        nowcasts.NowcastScores(0)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        nowcasts.evaluate_nowcasts({}, samples)
    with pytest.raises(ValueError, match=r"short: the nowcast has the shape"):
        nowcasts.evaluate_nowcasts({"short": lambda c, n: c[:, :1]}, samples)
    for fields in ({"pools": ()}, {"thresholds": (-1,)}, {"neighbourhoods": (3, 3)}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            nowcasts.NowcastConfig(**fields)
