"""Tests of the curve of scores against the steps of samplers."""

import json

import numpy as np
import pytest

from benchmarks import prediff_samplers
from weatherlib.data import radar_sequences, radar_series, synthetic


def _row(sampler, context, score, seconds=1.0, seed=0, first=False):
    scores = dict.fromkeys(("crps", "mse_mean", "mse_member", "variance"), 4.0)
    head = {"sampler": sampler, "seed": seed, "context": context, "first": first}
    return {**head, "crps_fair": score, "seconds": seconds, **scores}


def test_results_are_kept_and_gone_on_with(tmp_path):
    path, asked = tmp_path / "rows.jsonl", {"model": "m", "members": 4}
    rows = prediff_samplers.Rows(path, asked)
    rows.add(_row("ddim:10", 3, 1.0))
    with path.open("a") as file:
        file.write('{"sampler": "ddim:1')
    again = prediff_samplers.Rows(path, asked)
    assert again.held == rows.held
    assert again.has("ddim:10", 0, 3)
    assert not again.has("ddim:10", 1, 3)
    again.add(_row("ddim:10", 4, 1.0))
    assert prediff_samplers.Rows(path, asked).has("ddim:10", 0, 4)
    with pytest.raises(ValueError, match=r"made with other members; .*--output"):
        prediff_samplers.Rows(path, {**asked, "members": 8})


def test_differences_are_paired_with_the_ancestral_sampler(tmp_path):
    rows = [
        _row("ancestral", 0, 10.0, seconds=50.0, first=True),
        _row("ancestral", 1, 20.0, seconds=40.0),
        _row("ancestral", 2, 30.0, seconds=44.0),
        # One context is not done yet.
        _row("dpm_solver:20", 0, 10.2, seconds=9.0, first=True),
        _row("dpm_solver:20", 1, 20.4, seconds=1.0),
    ]
    order = ("dpm_solver:20", "ancestral")
    fast, slow = prediff_samplers.curve(rows, order, 1000)
    assert (fast["sampler"], fast["steps"], fast["contexts"]) == (*order[:1], 20, 2)
    assert (slow["steps"], slow["percent"], slow["cost"]) == (1000, 0, 1)
    apart = np.array([0.2, 0.4]) / 15 * 100
    assert fast["percent"] == pytest.approx(apart.mean(), abs=1e-4)
    assert fast["percent_error"] == pytest.approx(np.ptp(apart) / 2, abs=1e-4)
    assert slow["seconds"] == 42.0
    assert fast["cost"] == pytest.approx(1 / 42, abs=1e-4)
    assert fast["rmse_mean"] == 2.0
    assert fast["draws"] == 2
    prediff_samplers.write([fast, slow], tmp_path)
    assert json.loads((tmp_path / "curve.json").read_text()) == [fast, slow]
    head, *lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert head.split(",")[:4] == ["sampler", "steps", "contexts", "draws"]
    assert len(lines) == 2
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_draws_with_other_seeds_are_means_of_their_contexts():
    rows = [
        {**_row(name, context, value), "seed": seed}
        for seed, values in enumerate([[10.0, 20.0, 11.0, 19.0], [12.0, 22.0, 9, 21]])
        for (name, context), value in zip(
            [(n, c) for n in ("ancestral", "ddim:50") for c in (0, 1)], values
        )
    ]
    slow, fast = prediff_samplers.curve(rows, ("ancestral", "ddim:50"), 1000)
    assert (slow["crps_fair"], slow["draws"], slow["contexts"]) == (16, 4, 2)
    assert (fast["crps_fair"], fast["draws"]) == (15, 4)
    # Differences are 1 and -3 at one context, -1 and -1 at the other.
    assert fast["percent"] == pytest.approx(-100 / 16, abs=1e-4)
    assert fast["percent_error"] == 0


def test_contexts_have_rain_and_are_spread(tmp_path):
    series = synthetic.synthetic_radar(frames=30, rows=32, columns=32, seed=2)
    config = radar_sequences.SequenceConfig(inputs=3, targets=2, stride=1)
    samples = radar_series.series_sequences(series, config)
    means = np.array([samples.pixels(n)[:3].mean() for n in range(len(samples))])
    least = float(np.median(means))
    found = prediff_samplers.wet_contexts(samples, 4, least)
    wet = np.flatnonzero(means >= least)
    assert len(found) == 4
    assert found[0] == wet[0]
    assert found[-1] == wet[-1]
    assert set(found) <= set(wet)
    with pytest.raises(ValueError, match="--wet 300: none of"):
        prediff_samplers.wet_contexts(samples, 4, 300.0)


def test_a_perfect_nowcast_has_no_error():
    series = synthetic.synthetic_radar(frames=8, rows=16, columns=16, seed=2)
    config = radar_sequences.SequenceConfig(inputs=3, targets=2, stride=1)
    samples = radar_series.series_sequences(series, config)
    truth = samples.pixels(1)[3:]

    def nowcast(context, leads):
        np.testing.assert_array_equal(context[0], samples.pixels(1)[:3])
        return np.stack([truth, truth])[:, np.newaxis]

    found = prediff_samplers.judge(nowcast, samples, 1)
    assert found.pop("seconds") >= 0
    assert set(found.values()) == {0.0}


def test_samplers_with_settings_have_a_place_in_the_picture():
    rows = [_row("ddim:50:eta=0.5", 0, 10.0)]
    assert prediff_samplers.curve(rows, (), 1000)[0]["steps"] == 50
    rows.append(_row("dpm_solver:20:stochastic:spacing=log_snr", 0, 9.5))
    table = prediff_samplers.curve([*rows, _row("ancestral:100", 0, 9.0)], (), 1000)
    labels = prediff_samplers.draw(table).axes[0].get_legend_handles_labels()[1]
    assert labels == ["with noise, log_snr", "DDIM, with noise", "ancestral, respaced"]


@pytest.mark.parametrize(
    "text", ["dpm_solvr:5", "ddim:many", "ddim:0", "ddim:5:etta=1"]
)
def test_samplers_that_are_none_end_in_one_line(tmp_path, capsys, text):
    words = ["--model", str(tmp_path), "--samplers", text]
    assert prediff_samplers.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
