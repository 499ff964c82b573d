"""A value with every kind of field, and checkpoints of it in memory."""

import dataclasses
import io
from typing import Any, Optional

import numpy as np

from weatherlib import checkpoint


@dataclasses.dataclass(frozen=True)
class Part:
    number: int
    text: str


@dataclasses.dataclass(frozen=True)
class Whole:
    params: dict[str, Any]
    yes: bool
    no: bool
    number: int
    real: float
    text: str
    absent: Optional[int]  # noqa: UP045 (the published schemas spell it so)
    present: float | None
    numbers: tuple[int, ...]
    mixed: tuple[str, int, Part]
    parts: list[Part]
    by_name: dict[str, Part]
    by_number: dict[int, dict[str, float]]
    part: Part
    raw: np.ndarray
    loose: tuple = ()


def whole(**changes):
    params = {
        "module/~/linear_0": {
            "w": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.zeros(3, np.float16),
        },
        "scale": np.float64(2.0),
    }
    values = {
        "params": params,
        "yes": True,
        "no": False,
        "number": -3,
        "real": 0.1,
        "text": "grüße: 1/2",
        "absent": None,
        "present": 2.5,
        "numbers": tuple(range(12)),
        "mixed": ("a", 1, Part(2, "b")),
        "parts": [Part(i, str(i)) for i in range(11)],
        "by_name": {"x": Part(1, "y")},
        "by_number": {3: {"a": 1.5}, 10: {"b": 2.5}},
        "part": Part(4, ""),
        "raw": np.array([[1, 2]], np.int8),
        "loose": (),
    }
    return Whole(**(values | changes))


def dumped(value, extras=None):
    buffer = io.BytesIO()
    checkpoint.dump(buffer, value, extras)
    return buffer.getvalue()


def loaded(data, typ):
    return checkpoint.load(io.BytesIO(data), typ)


def assert_same_tree(actual, expected):
    """Asserts equal types, dtypes and bytes all the way down."""
    if isinstance(expected, np.ndarray | np.generic):
        assert isinstance(actual, np.ndarray)
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert actual.tobytes() == expected.tobytes()
        return
    assert type(actual) is type(expected)
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert_same_tree(getattr(actual, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same_tree(actual[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected):
            assert_same_tree(a, e)
    else:
        assert actual == expected
