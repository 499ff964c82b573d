"""Checkpoints that hold something else than is asked for, and types that cannot."""

import dataclasses
import io
import logging
import pathlib

import ml_dtypes
import numpy as np
import pytest

from tests.checkpoint import cases
from weatherlib import checkpoint


class Stubborn:
    """Something that refuses to become an array."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("it will not")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a:b": np.zeros(1)}, "the key 'a:b' must not hold ':'"),
        ({"a": {"c": None}}, "a:c: None can be stored only as a field"),
        ({"a": object()}, "a: a object of dtype object cannot be stored"),
        ({"a": np.zeros(2, ml_dtypes.float8_e5m2)}, "dtype float8_e5m2 cannot be sto"),
        ({"a": np.zeros(2, "f4,i4")}, "a: a ndarray of dtype .* cannot be stored"),
        ({"a": [[1], [1, 2], None]}, "a:2: None can be stored only"),
        ({"a": Stubborn()}, "a: cannot be stored as an array: it will not"),
        ({1: np.zeros(1), "1": np.zeros(1)}, "two keys are the same text: '1', '1'"),
        ({"weatherlib": np.zeros(1)}, "the key 'weatherlib' is kept for extras"),
        (np.zeros(3), "must be a dataclass, dict, list or tuple, found ndarray"),
    ],
)
def test_what_cannot_be_stored_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        cases.dumped(value)


@pytest.mark.parametrize("name", ["empty", "bfloat16"])
def test_extras_cannot_take_our_own_names(name):
    with pytest.raises(ValueError, match=f"extras cannot be named '{name}'"):
        cases.dumped(cases.whole(), {name: np.zeros(1)})


def test_a_file_from_before_a_setting_existed_takes_its_default():
    @dataclasses.dataclass(frozen=True)
    class Before:
        width: int

    @dataclasses.dataclass(frozen=True)
    class After:
        width: int
        depth: int = 4
        names: list[str] = dataclasses.field(default_factory=lambda: ["a"])
        limit: float | None = 2.5

    found = checkpoint.load(io.BytesIO(cases.dumped(Before(3))), After)
    assert found == After(3, 4, ["a"], 2.5)


def rewritten(**changes):
    """Returns a good file with members replaced, or removed where None is given."""
    with np.load(io.BytesIO(cases.dumped(cases.whole()))) as archive:
        members = dict(archive.items())
    members |= {name.replace("__", ":"): value for name, value in changes.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in members.items() if v is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": None}, "does not match Whole: it lacks 'number'"),
        ({"part__text": None}, "it lacks 'part:text'"),
        ({"text": None, "real": None}, "it lacks 'real', 'text'"),
        ({"number": 1.5}, "number: expected int, found 1.5"),
        ({"number": "x"}, "number: expected int, found 'x'"),
        ({"real": "x"}, "real: expected float, found 'x'"),
        ({"yes": 2}, "yes: expected bool, found 2"),
        ({"text": 3}, "text: expected str, found 3"),
        ({"number": np.zeros(3)}, r"number: expected int, found an array of float64"),
        ({"raw": None, "raw__a": 1}, "raw: expected an array, found a group of 'a'"),
        ({"part": 1, "part__text": None, "part__number": None}, "part: expected a gro"),
        ({"numbers__3": None}, "numbers: expected the indices of a tuple"),
        ({"mixed__3": 1}, "mixed: expected 3 entries, found 4"),
        ({"by_number__x__a": 1.0}, "by_number: expected keys of type int, found 'x'"),
        ({"parts__0__number": "x"}, "parts:0:number: expected int, found 'x'"),
    ],
)
def test_a_file_that_does_not_match_the_schema_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        cases.loaded(rewritten(**changes), cases.Whole)


def test_whole_numbers_fit_real_fields_and_the_other_way_round():
    back = cases.loaded(rewritten(real=3, number=4.0, yes=1), cases.Whole)
    cases.assert_same_tree((back.real, back.number, back.yes), (3.0, 4, True))
    assert np.isnan(cases.loaded(rewritten(real=np.nan), cases.Whole).real)


def test_unknown_names_are_logged_by_load_and_refused_by_open(caplog, tmp_path):
    data = rewritten(new__field=np.zeros(1))
    with caplog.at_level(logging.WARNING):
        cases.assert_same_tree(cases.loaded(data, cases.Whole), cases.whole())
    assert "Whole has no field for 'new'" in caplog.text
    path = tmp_path / "file.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"file\.npz: .*it has the unknown 'new'"):
        checkpoint.open_checkpoint(path, cases.Whole)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["params:mesh_gnn/x:w", "model_config:mesh_size"], "GraphCast"),
        (["params:x:w", "denoiser_architecture_config:a"], "GenCast"),
        (["params:multimodality_forward/a:w", "license"], "WeatherNext 2"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(names, family):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.zeros(1) for name in names})
    with pytest.raises(ValueError, match=f"looks like a checkpoint of {family}"):
        cases.loaded(buffer.getvalue(), cases.Whole)


def test_a_checkpoint_of_no_known_family_is_described_by_its_names():
    with pytest.raises(ValueError, match=r"\(it holds 'a', .* and 2 more\)"):
        cases.loaded(cases.dumped(dict.fromkeys("abcdefghij", 1)), cases.Whole)


def test_types_that_cannot_be_read_are_a_type_error():
    data = cases.dumped({"a": 1})
    with pytest.raises(TypeError, match="of unions only those of None, one scalar"):
        cases.loaded(data, dict[str, int | str])
    with pytest.raises(TypeError, match=r"keys of type .*bytes.* cannot be read"):
        cases.loaded(data, dict[bytes, int])
    with pytest.raises(TypeError, match="cannot be made from 1"):
        cases.loaded(data, dict[str, Trapless])


def test_a_schema_with_unresolved_types_is_a_type_error():
    @dataclasses.dataclass
    class Schema:
        a: "NowhereDefined"  # noqa: F821

    with pytest.raises(TypeError, match=r"Schema.* unknown types: .*NowhereDefined"):
        cases.loaded(cases.dumped({"a": 1}), Schema)


class Trapless:
    """A type that takes no argument."""


def test_other_types_are_called_with_the_value():
    assert cases.loaded(
        cases.dumped({"a": "some/where"}), dict[str, pathlib.PurePosixPath]
    ) == {"a": pathlib.PurePosixPath("some/where")}


def test_bare_containers_hold_arrays():
    assert cases.loaded(cases.dumped({"a": [1, 2]}), dict[str, list])["a"] == [1, 2]
    assert cases.loaded(cases.dumped({"a": (1,)}), dict[str, tuple])["a"] == (1,)
    assert cases.loaded(cases.dumped({True: 1}), dict[bool, int]) == {True: 1}
    assert cases.loaded(cases.dumped([3, "x"]), tuple[int, str]) == (3, "x")
