import numpy as np
import pytest

from weatherlib.data_utils import moments, tiled_sums

_SHAPE = (60, 2, 700)


def _offset(random):
    return 1e5 + 10 * random.normal(size=_SHAPE)


def _geopotential(random):
    height = 5e5 + 1e3 * np.sin(np.arange(_SHAPE[0]))[:, None, None]
    return height + random.normal(size=_SHAPE)


def _rising(random):
    # Changes whose mean is far larger than their spread.
    return 4.0 * np.arange(_SHAPE[0])[:, None, None] + random.normal(size=_SHAPE) / 64


def _jump(random):
    values = random.normal(size=_SHAPE) / 1000
    values[_SHAPE[0] // 5 :] += 1000
    return values


def _tiny(random):
    return 1e-22 * random.gamma(0.5, size=_SHAPE)


def _huge(random):
    return 1e25 * random.normal(size=_SHAPE)


def _wind(random):
    return 0.1 + 10 * random.normal(size=_SHAPE)


def _constant(random):
    del random
    return np.full(_SHAPE, 273.15)


def _sparse(random):
    return np.where(random.random(_SHAPE) < 0.999, 0.0, random.normal(size=_SHAPE) ** 2)


def _gaps_late(random):
    values = 280 + random.normal(size=_SHAPE)
    values[40:, 1, 30:60] = np.nan
    values[10:20, 0] = np.nan
    return values


def _added(values, lag, blocks, weights):
    """Returns moments of values and changes, added block by block."""
    found = [moments.Moments.empty(values.shape[1]) for _ in range(2)]
    for first in range(0, len(values), blocks):
        block = values[first : first + blocks]
        pairs = []
        begin = max(first, lag)
        if begin < first + len(block):
            later = slice(begin - first, len(block))
            pairs = [(later, values[begin - lag : first + len(block) - lag])]
        moments.add_block(*found, block, pairs, weights)
    return found


def _two_passes(values, weights):
    """Returns mean, standard deviation and the weight of what is known, by level."""
    known = ~np.isnan(values)
    share = known * (np.ones(values.shape[2]) if weights is None else weights)
    whole = np.where(known, values, 0.0)
    weight = share.sum(axis=(0, 2))
    mean = (whole * share).sum(axis=(0, 2)) / weight
    squares = (share * (whole - mean[:, None]) ** 2).sum(axis=(0, 2))
    return mean, np.sqrt(squares / weight), weight


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tile", [None, 1 << 13])
@pytest.mark.parametrize(("blocks", "lag"), [(60, 1), (7, 2), (3, 5)])
@pytest.mark.parametrize(
    "make",
    [
        _offset,
        _geopotential,
        _rising,
        _jump,
        _tiny,
        _huge,
        _wind,
        _constant,
        _sparse,
        _gaps_late,
    ],
)
def test_single_precision_gives_what_two_passes_in_double_give(
    make, blocks, lag, tile, weighted, monkeypatch
):
    if tile:
        monkeypatch.setattr(tiled_sums, "_TILE", tile)
        monkeypatch.setattr(tiled_sums, "_LONG", 512)
    random = np.random.default_rng(1)
    values = make(random).astype(np.float32)
    weights = random.random(_SHAPE[2]) if weighted else None
    exact = values.astype(np.float64)
    whole = (exact, exact[lag:] - exact[:-lag])
    for found, of in zip(_added(values, lag, blocks, weights), whole):
        mean, stddev, weight = _two_passes(of, weights)
        np.testing.assert_allclose(found.weight, weight, rtol=1e-12)
        np.testing.assert_array_equal(found.missing, np.isnan(of).sum(axis=(0, 2)))
        np.testing.assert_array_equal(
            found.count + found.missing, of.shape[0] * of.shape[2]
        )
        # A mean is as good as the values, or as their spread, whichever is worse.
        size = np.abs(mean) + stddev
        np.testing.assert_array_less(np.abs(found.mean - mean), 1e-6 * size + 1e-300)
        np.testing.assert_allclose(
            found.stddev, stddev, rtol=1e-6, atol=1e-12 * size.max()
        )
    least = np.nanmin(exact, axis=(0, 2))
    np.testing.assert_array_equal(
        _added(values, lag, blocks, weights)[0].minimum, least
    )


@pytest.mark.parametrize("kind", ["f2", "f8", "i2", "u1", "?"])
def test_other_kinds_of_numbers_are_added_in_double_precision(kind):
    random = np.random.default_rng(2)
    values = (random.random((9, 2, 50)) * 200).astype(kind)
    found, changes = _added(values, 1, 4, None)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(found.stddev, exact.std(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        changes.stddev, np.diff(exact, axis=0).std(axis=(0, 2)), rtol=1e-12
    )
    np.testing.assert_array_equal(found.minimum, exact.min(axis=(0, 2)))


@pytest.mark.parametrize("place", [0, 31, 59])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused_wherever_they_are(place, value):
    values = np.ones(_SHAPE, np.float32)
    values[place, 1, 5] = value
    values[3, 1, 7] = np.nan
    with pytest.raises(ValueError, match="infinite values; mark what is missing"):
        _added(values, 1, 10, None)


def test_a_block_is_the_same_in_any_layout_of_memory():
    values = np.random.default_rng(3).normal(size=(20, 3, 300)).astype(np.float32)
    turned = np.asfortranarray(values)
    for one, other in zip(_added(values, 1, 6, None), _added(turned, 1, 6, None)):
        np.testing.assert_allclose(one.stddev, other.stddev, rtol=1e-6)
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6, atol=1e-8)
