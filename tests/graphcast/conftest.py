"""Programs that run once are not worth optimising."""

import pytest

from tests.training import toys


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
    """Compiles the small networks of this folder several times faster."""
    with toys.quick_compilation():
        yield
