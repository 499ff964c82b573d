import json

import numpy as np
import pytest

from tests.conftest import GOLDENS
from weatherlib.evaluation import events, sevir_skill

_FOLDER = GOLDENS / "prediff"
_CASES = json.loads((_FOLDER / "skill.json").read_text())


@pytest.fixture(scope="module")
def arrays():
    with np.load(_FOLDER / "skill.npz") as stored:
        return dict(stored)


def _case(name, arrays):
    """Returns mode, pool and forecast of a published case."""
    mode = int(name[len("mode")])
    pool = int(name.split("pool")[1].split("_")[0]) if "pool" in name else 1
    forecast = arrays[f"pred_{'from_uint8' if name.endswith('uint8') else 'float'}"]
    # As published: the one missing pixel is filled before pooling.
    return mode, pool, np.nan_to_num(forecast, nan=0.5) if pool > 1 else forecast


@pytest.mark.parametrize("name", _CASES["expected"])
def test_counts_and_scores_are_the_published_ones(name, arrays):
    mode, pool, forecast = _case(name, arrays)
    truth = arrays["target"]
    leads = truth.shape[2] if mode else None
    skill = sevir_skill.SevirSkill(mode, leads=leads, pool=pool)
    for update in range(2):
        skill.update(forecast[update], truth[update])
    expected = _CASES["expected"][name]
    np.testing.assert_array_equal(skill.hits, expected["hits"])
    np.testing.assert_array_equal(skill.misses, expected["misses"])
    np.testing.assert_array_equal(skill.false_alarms, expected["fas"])
    found = skill.compute()
    assert set(map(str, found)) == set(expected["scores"])
    for threshold, scores in expected["scores"].items():
        key = threshold if threshold == "avg" else int(threshold)
        assert set(found[key]) == set(scores)
        for metric, value in scores.items():
            np.testing.assert_allclose(found[key][metric], value, rtol=1e-5)


def test_structural_similarity_is_the_published_one(arrays):
    forecast, truth = arrays["pred_from_uint8"], arrays["target"]
    found = [sevir_skill.ssim(f, t) for f, t in zip(forecast, truth)]
    np.testing.assert_allclose(np.mean(found), _CASES["ssim_uint8"], atol=1e-6)
    assert sevir_skill.ssim(truth[0], truth[0]) == pytest.approx(1)


def test_one_update_or_many_give_the_same(arrays):
    forecast, truth = arrays["pred_from_uint8"], arrays["target"]
    whole = sevir_skill.SevirSkill()
    whole.update(
        forecast.reshape(-1, *forecast.shape[2:]), truth.reshape(4, 3, 32, 32, 1)
    )
    parts = sevir_skill.SevirSkill()
    for update in range(2):
        for sample in range(2):
            parts.update(
                forecast[update, sample : sample + 1, ..., 0],
                truth[update, sample : sample + 1, ..., 0],
            )
    assert whole.compute() == parts.compute()


def test_a_pixel_at_a_threshold_is_an_event():
    frames = np.full((1, 1, 1, 1), 219, np.float32) * np.float32(1 / 255)
    skill = sevir_skill.SevirSkill()
    skill.update(frames, frames)
    np.testing.assert_array_equal(skill.hits, np.ones(6))
    # Where no event is forecast or observed, published scores are zero.
    dry = sevir_skill.SevirSkill(1, leads=1)
    dry.update(frames * 0, frames * 0)
    assert dry.compute()["avg"]["csi"] == 0


def test_the_published_bias_is_not_the_usual_one():
    hits, misses, alarms = np.array(6.0), np.array(2.0), np.array(4.0)
    usual = events.contingency_scores(hits, misses, alarms)["frequency_bias"]
    assert usual == 1.25
    found = events.sevir_bias(hits, misses, alarms)
    np.testing.assert_allclose(found, (1.25 / np.log(2)) ** 2)
    assert found != np.log2(usual) ** 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sevir_skill.SevirSkill(3), "mode is 0, 1 or 2"),
        (lambda: sevir_skill.SevirSkill(1), "mode 1 needs the number of leads"),
        (
            lambda: sevir_skill.SevirSkill(1, leads=2).update(
                np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4))
            ),
            "3 frames are given for 2 leads",
        ),
        (
            lambda: sevir_skill.SevirSkill().update(
                np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 5))
            ),
            "of one shape",
        ),
        (
            lambda: sevir_skill.SevirSkill().update(
                np.zeros((1, 3, 4, 4, 2)), np.zeros((1, 3, 4, 4, 2))
            ),
            "one channel is expected, found 2",
        ),
        (
            lambda: sevir_skill.SevirSkill(pool=8).update(
                np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4))
            ),
            "8 x 8 points do not fit",
        ),
        (
            lambda: sevir_skill.ssim(np.zeros((1, 1, 9, 9)), np.zeros((1, 1, 9, 9))),
            "smaller than the window of 11 x 11",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
