"""Configuration mappings and their making from plain dictionaries."""

import collections.abc
import dataclasses
import enum
import pathlib
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from weatherlib import config


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(config.Mapping):
    size: int = 2
    rate: float = 0.5

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size must be at least 1: {self.size}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(config.Mapping):
    name: str
    inner: Inner = Inner()
    widths: tuple[int, ...] = ()
    pair: tuple[str, int] = ("a", 1)
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    layers: list[Inner] = dataclasses.field(default_factory=list)
    mode: Literal["fast", "exact", 3] = "fast"
    colour: Colour = Colour.RED
    folder: pathlib.Path = pathlib.Path()
    limit: float | None = None
    flag: bool = False
    either: int | str = 0
    anything: Any = None
    raw: tuple = ()


def test_a_config_is_a_mapping_of_its_fields():
    inner = Inner(size=3)
    assert isinstance(inner, collections.abc.Mapping)
    assert dict(**inner) == {"size": 3, "rate": 0.5}
    assert list(inner.keys()) == ["size", "rate"]
    assert inner["size"] == 3
    assert inner.get("absent", 7) == 7
    assert len(inner) == 2
    assert "rate" in inner
    assert Inner(**inner) == inner


def test_a_config_stays_a_frozen_dataclass():
    inner = Inner()
    assert dataclasses.asdict(inner) == {"size": 2, "rate": 0.5}
    assert dataclasses.replace(inner, size=4) == inner.replace(size=4) == Inner(size=4)
    assert hash(inner) == hash(Inner())
    assert inner != Inner(rate=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        inner.size = 1
    with pytest.raises(TypeError):
        Inner(3)


def test_replace_checks_the_new_values():
    with pytest.raises(ValueError, match="size must be at least 1: 0"):
        Inner().replace(size=0)


def test_an_unknown_name_is_a_key_error_with_the_closest_field():
    with pytest.raises(KeyError, match=r"no field 'sise' .did you mean 'size'"):
        Inner()["sise"]


def test_a_field_cannot_hide_a_method_of_the_mapping():
    with pytest.raises(TypeError, match=r"cannot have fields named \['keys'\]"):

        class Bad(config.Mapping):
            keys: int = 1


def test_from_dict_reads_what_yaml_holds():
    text = """
    name: run
    inner: {size: 5, rate: 1e-4}
    widths: [1, 2, 3]
    pair: [b, 2]
    rates: {a: 1, b: 2.5}
    layers: [{size: 1}, {rate: 2}]
    mode: exact
    colour: BLUE
    folder: some/where
    limit: 3
    flag: true
    either: text
    anything: [1, {a: b}]
    raw: [1, x]
    """
    assert config.from_dict(Outer, yaml.safe_load(text)) == Outer(
        name="run",
        inner=Inner(size=5, rate=1e-4),
        widths=(1, 2, 3),
        pair=("b", 2),
        rates={"a": 1.0, "b": 2.5},
        layers=[Inner(size=1), Inner(rate=2.0)],
        mode="exact",
        colour=Colour.BLUE,
        folder=pathlib.Path("some/where"),
        limit=3.0,
        flag=True,
        either="text",
        anything=[1, {"a": "b"}],
        raw=(1, "x"),
    )


def test_from_dict_converts_to_the_type_of_the_field():
    built = config.from_dict(
        Outer,
        {"name": "x", "widths": [np.int64(4), 2.0], "limit": 1, "colour": "b"},
    )
    assert [type(width) for width in built.widths] == [int, int]
    assert type(built.limit) is float
    assert built.colour is Colour.BLUE


def test_from_dict_keeps_instances_and_none():
    inner = Inner(size=9)
    built = config.from_dict(
        Outer, {"name": "x", "inner": inner, "limit": None, "colour": Colour.BLUE}
    )
    assert built.inner is inner
    assert built.limit is None
    assert built.colour is Colour.BLUE


@given(
    st.builds(
        Outer,
        name=st.text(),
        inner=st.builds(Inner, size=st.integers(1), rate=st.floats(allow_nan=False)),
        widths=st.lists(st.integers()).map(tuple),
        rates=st.dictionaries(st.text(), st.floats(allow_nan=False)),
        limit=st.none() | st.floats(allow_nan=False),
        flag=st.booleans(),
    )
)
def test_from_dict_undoes_asdict(outer):
    assert config.from_dict(Outer, dataclasses.asdict(outer)) == outer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "x"}, "Outer: unknown key 'nam' .did you mean 'name'"),
        ({"name": "x", "zzz": 1}, "unknown key 'zzz' .valid: name, inner"),
        ({}, "Outer: missing name"),
        ({"name": "x", "inner": {"sizes": 1}}, "inner: unknown key 'sizes'.*'size'"),
        ({"name": 3}, r"name: expected text .in quotes, '3'., found 3 \(int\)"),
        ({"name": "x", "inner": {"size": "big"}}, "inner.size: expected a whole num"),
        ({"name": "x", "inner": {"size": 1.5}}, "inner.size: expected a whole number"),
        ({"name": "x", "inner": {"size": True}}, "inner.size: expected a whole number"),
        ({"name": "x", "inner": {"rate": "fast"}}, "inner.rate: expected a number"),
        ({"name": "x", "inner": {"rate": True}}, "inner.rate: expected a number"),
        ({"name": "x", "inner": {"size": 0}}, "inner: size must be at least 1: 0"),
        ({"name": "x", "inner": 3}, "inner: expected a mapping of the fields of Inner"),
        ({"name": "x", "widths": 3}, "widths: expected a list, found 3"),
        ({"name": "x", "widths": "12"}, "widths: expected a list, found '12'"),
        ({"name": "x", "widths": [1, "b"]}, r"widths\[1\]: expected a whole number"),
        ({"name": "x", "pair": ["a"]}, "pair: expected 2 values"),
        ({"name": "x", "rates": [1]}, "rates: expected a mapping"),
        ({"name": "x", "rates": {"a": "b"}}, "rates.a: expected a number"),
        ({"name": "x", "rates": {1: 2.0}}, "rates key: expected text .*, found 1"),
        ({"name": "x", "layers": [{"size": "b"}]}, r"layers\[0\].size: expected"),
        ({"name": "x", "mode": "exat"}, "mode: expected one of 'fast', .*'exact'"),
        ({"name": "x", "mode": 4}, "mode: expected one of .* found 4"),
        ({"name": "x", "colour": "BLU"}, "colour: expected one of RED, BLUE.*'BLUE'"),
        ({"name": "x", "folder": 3}, "folder: expected a path"),
        ({"name": "x", "limit": "no"}, "limit: expected a number"),
        ({"name": "x", "flag": 1}, "flag: expected true or false"),
        ({"name": "x", "either": 1.5}, "either: expected int or str, found 1.5"),
    ],
)
def test_from_dict_says_which_field_is_wrong_and_what_it_expects(values, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(Outer, values)


def test_from_dict_reports_every_unknown_key():
    with pytest.raises(ValueError, match=r"'flg'.*'limt'"):
        config.from_dict(Outer, {"name": "x", "flg": True, "limt": 2})


def test_a_class_that_is_no_dataclass_is_taken_by_instance_only():
    @dataclasses.dataclass
    class Holder:
        array: np.ndarray

    array = np.zeros(2)
    assert config.from_dict(Holder, {"array": array}).array is array
    with pytest.raises(ValueError, match="array: expected ndarray, found 3"):
        config.from_dict(Holder, {"array": 3})


def test_config_loads_neither_jax_nor_xarray():
    code = (
        "import sys, weatherlib.config, weatherlib.task, weatherlib.typing\n"
        "sys.exit(any(m in sys.modules for m in ('jax', 'haiku', 'xarray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
