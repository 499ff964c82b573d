"""What the tests of diffusion share."""

import pytest

from tests.training import toys


@pytest.fixture(autouse=True)
def quick():
    """Compiles faster, to code that runs slower."""
    with toys.quick_compilation():
        yield
