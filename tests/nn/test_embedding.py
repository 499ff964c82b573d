"""Tests of tables of sines and cosines against published ones."""

import numpy as np
import pytest

from tests import tolerances
from weatherlib.nn import embedding


@pytest.fixture(scope="module")
def tables(goldens):
    """Published tables."""
    with np.load(goldens / "climax" / "pos_embed.npz") as file:
        return dict(file)


def test_tables_of_grids_are_the_published_ones(tables):
    atol = tolerances.CLIMAX_TABLE_ATOL
    found = embedding.sincos_2d(64, 16, 32)
    np.testing.assert_allclose(found, tables["f64_pos2d_64_16x32"], atol=atol, rtol=0)
    large = embedding.sincos_2d(1024, 32, 64)[[0, 1, 63, 64, 2047]]
    expected = tables["f64_pos2d_1024_32x64_rows_0_1_63_64_2047"]
    np.testing.assert_allclose(large, expected, atol=atol, rtol=0)
    odd = embedding.sincos_2d(16, 3, 5)
    np.testing.assert_allclose(
        odd, tables["f64_pos2d_cls_16_3x5"][1:], atol=atol, rtol=0
    )


def test_tables_of_lines_are_the_published_ones(tables):
    atol = tolerances.CLIMAX_TABLE_ATOL
    found = embedding.sincos_1d(64, np.arange(12))
    np.testing.assert_allclose(found, tables["f64_pos1d_64_0to11"], atol=atol, rtol=0)


def test_widths_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="even width, not 3"):
        embedding.sincos_1d(3, np.arange(2))
    with pytest.raises(ValueError, match="multiple of 4, not 6"):
        embedding.sincos_2d(6, 2, 2)


def test_alternating_tables_have_sines_on_even_and_cosines_on_odd_columns():
    found = embedding.alternating_1d(6, np.arange(5))
    for place in range(5):
        for column in range(6):
            angle = place / 10000 ** (2 * (column // 2) / 6)
            expected = np.cos(angle) if column % 2 else np.sin(angle)
            assert found[place, column] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="even width, not 3"):
        embedding.alternating_1d(3, np.arange(2))
