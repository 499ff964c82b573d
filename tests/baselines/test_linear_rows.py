import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.baselines import linear_cases
from weatherlib.baselines import linear_fit, linear_layout, linear_rows

LINEAR, MULTI = linear_cases.KINDS


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    size=st.integers(1, 12),
    cuts=st.lists(st.integers(1, 60), max_size=3),
)
def test_blocks_are_cut_anew_and_hold_the_same(sizes, size, cuts):
    rows = np.arange(sum(sizes))[:, np.newaxis]
    edges = np.cumsum(sizes)[:-1]
    blocks = [(part, -part) for part in np.split(rows, edges)]
    found = list(linear_rows.regrouped(blocks, size, cuts))
    for number, sign in ((0, 1), (1, -1)):
        joined = np.concatenate([block[number] for block in found])
        np.testing.assert_array_equal(joined, sign * rows)
    ends = np.cumsum([len(block[0]) for block in found]).tolist()
    assert {cut for cut in cuts if cut < len(rows)} <= set(ends)
    assert max(len(block[0]) for block in found) <= size
    # No cut that was not asked for.
    for end, (inputs, _) in zip(ends[:-1], found):
        assert end in cuts or len(inputs) == size


def test_narrow_numbers_are_widened():
    import jax.numpy as jnp

    frames, targets = linear_cases.draw(20)
    half = jnp.asarray(frames, jnp.bfloat16), jnp.asarray(targets, jnp.bfloat16)
    wide = tuple(np.asarray(values, np.float32) for values in half)
    found, expected = (
        linear_cases.fit(LINEAR, *values, options={"dtype": np.float32})
        for values in (half, wide)
    )
    np.testing.assert_array_equal(
        found.params["linear"]["w"], expected.params["linear"]["w"]
    )


@pytest.mark.parametrize("kind", linear_cases.KINDS)
def test_missing_values_are_named(kind):
    frames, targets = linear_cases.draw(10, extra=1)
    gap = frames.copy()
    gap[1, 1, 1, 1, 2] = np.nan
    gap[2, 0, 0, 0, 2] = np.inf
    with pytest.raises(ValueError, match=r"v2: 2 of a batch of 7 .*nan_cleaning"):
        linear_cases.fit(kind, gap, targets)
    gap = targets.copy()
    gap[0, 0, 0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="v1: 1 of"):
        linear_cases.fit(kind, frames, gap)
    static = np.full((10, 2, 3, 1), np.nan)
    with pytest.raises(ValueError, match="static0: 7 of"):
        linear_cases.fit(kind, frames, targets, others={"static": static})


def test_fields_of_another_form_are_refused():
    frames, targets = linear_cases.draw(10)
    names = linear_layout.Channels(frames=("a", "b"))
    config = LINEAR(input_length=3, output_length=2)

    def run(*parts, config=config, names=names):
        made = [(linear_cases.fields(x), y) for x, y in parts]
        linear_fit.fit(made, config, names, samples=10)

    with pytest.raises(ValueError, match="reads 12 frames, found 3; set input_length"):
        run((frames, targets), config=LINEAR(output_length=2))
    with pytest.raises(ValueError, match=r"have the shape \(10, 2, .*output_length"):
        run((frames, targets), config=LINEAR(input_length=3))
    with pytest.raises(ValueError, match="1 names are given for 2 channels"):
        run((frames, targets), names=linear_layout.Channels(frames=("a",)))
    with pytest.raises(
        ValueError, match="24 features on the grid 2x2, the first one 3"
    ):
        run((frames[:5], targets[:5]), (frames[5:, :, :, :2], targets[5:, :, :, :2]))
    with pytest.raises(ValueError, match="have 2 channels, of which the first 3"):
        run((frames, np.zeros((10, 2, 2, 3, 3))))
    with pytest.raises(ValueError, match=r"v5 is not predicted \(valid: v0, v1"):
        linear_cases.fit(MULTI, frames, targets, alphas={"v5": 1.0})


def test_forcings_of_other_times_are_refused():
    frames, targets = linear_cases.draw(10)
    known = np.zeros((10, 3, 2, 3, 1))
    with pytest.raises(ValueError, match="predicts 2 frames, and the forcings have 3"):
        linear_cases.fit(LINEAR, frames, targets, others={"known": known})
