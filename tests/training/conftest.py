import pytest

from tests.training import toys


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    with toys.quick_compilation():
        yield
