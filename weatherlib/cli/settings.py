"""Settings from a YAML file, changed by `key=value`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any, TypeVar

import yaml

from weatherlib import config

__all__ = ["change", "dump", "parse", "read", "read_values"]

_T = TypeVar("_T")


class _Loader(yaml.SafeLoader):
    """Reads YAML and leaves dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the parent class has it
        key: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read(
    cls: type[_T], path: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> _T:
    """Returns the settings of a YAML file with some changed.

    Args:
      cls: A configuration dataclass.
      path: The file.
      overrides: `key=value`; nested keys are dotted and items of lists numbered, as in
        `stages.0.steps=100`. Values are YAML.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: It is no YAML, a word has no `=`, a key is unknown, or a value wrong.
    """
    values = read_values(path)
    for word in overrides:
        change(values, word)
    try:
        return config.from_dict(cls, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_values(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns keys and values of a YAML file as they are.

    Raises:
      FileNotFoundError: There is no such file.
      ValueError: It is no YAML, or holds something else.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: the configuration does not exist")
    if path.is_dir():
        raise ValueError(
            f"{path}: is a folder; give a configuration in YAML, such as "
            f"{path / 'config.yaml'}"
        )
    try:
        text = path.read_text(encoding="utf8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: no YAML file, for it is not text ({error}); give the "
            "configuration here, and data as --set data.path=FILE"
        ) from error
    values = parse(text, str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected keys and values, found {values!r}")
    return values


def parse(text: str, label: str) -> Any:
    """Returns what YAML says, dates as text.

    Raises:
      ValueError: It is no YAML.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{label}: not valid YAML ({reason})") from error


def dump(settings: Any) -> str:
    """Returns the settings as YAML that `read` understands."""
    return yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, config.Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, pathlib.PurePath) else value


def change(values: dict[str, Any], word: str) -> None:
    """Changes a setting in place.

    Args:
      values: Keys and values.
      word: As an entry of `overrides` in `read`.

    Raises:
      ValueError: The word has no `=`, or does not fit the values.
    """
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ValueError(f"--set: expected key=value, found {word!r}")
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        if isinstance(place, dict):
            # A section that is absent, or empty in the file.
            place[parent] = place.get(parent) or {}
        place = place[_index(place, parent, word)]
        if not isinstance(place, dict | list):
            raise ValueError(f"--set {word}: {parent} is no section but {place!r}")
    if isinstance(place, list):
        place[_index(place, last, word)] = parse(text, f"--set {word}")
    else:
        place[last] = parse(text, f"--set {word}")


def _index(place: Any, part: str, word: str) -> Any:
    """Returns the key or the number of a list entry."""
    if isinstance(place, dict):
        return part
    if not part.isdigit() or int(part) >= len(place):
        raise ValueError(
            f"--set {word}: {part!r} is no entry of a list of {len(place)}; they count "
            "from 0"
        )
    return int(part)
