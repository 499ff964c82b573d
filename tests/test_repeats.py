"""The list of slow repeats names tests that exist."""

import collections

import pytest

from tests.conftest import REPEATS

LINES = [
    line
    for line in REPEATS.read_text(encoding="utf8").splitlines()
    if not line.startswith("#")
]


def test_each_line_is_there_once():
    assert [line for line, n in collections.Counter(LINES).items() if n > 1] == []


@pytest.mark.parametrize("name", sorted({line.split("[")[0] for line in LINES}))
def test_a_repeat_is_a_test(name):
    path, function = name.split("::")
    text = (REPEATS.parent / path).read_text(encoding="utf8")
    assert f"def {function}(" in text
