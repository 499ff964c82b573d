"""What the page on diffusion shows is what comes out."""

import numpy as np
import pytest

from tests.docs import test_pages


@pytest.fixture(scope="module")
def page():
    return test_pages._run("docs/how-to/diffusion.md")


def test_the_samples_of_the_page_are_of_the_distribution(page):
    found = np.asarray(page["samples"].x)
    assert found.shape == (64, 8, 8, 1)
    assert abs(found.mean() - 2) < 0.05
    assert abs(found.std() - 1) < 0.05


def test_the_constraint_of_the_page_is_nearly_met(page):
    free = np.asarray(page["samples"].x).mean((1, 2, 3))
    guided = np.asarray(page["guided"].x).mean((1, 2, 3))
    assert np.abs(guided - 3).mean() < 0.5 * np.abs(free - 3).mean()
