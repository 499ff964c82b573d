"""Which arguments a command cannot do without, and was not given."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Sequence

import tyro

from weatherlib.cli import completion

__all__ = ["explain"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    """One argument of a command.

    Attributes:
      called: How the help calls it, with what follows it.
      argument: Its spellings and its text.
      takes: How many words may follow it.
      is_needed: Whether the command does not go without it.
    """

    called: str
    argument: completion.Argument
    takes: float
    is_needed: bool


def explain(name: str, options: type, arguments: Sequence[str], box: str) -> str:
    """Returns which arguments are missing, each with what it is.

    Those that tyro takes for optional, as they may be several, are among them. Empty
    where that is not the mistake that it tells of.

    Args:
      name: The command.
      options: Dataclass of its options.
      arguments: Its words.
      box: What tyro drew around the mistake.
    """
    if "Required options" not in box:
        return ""
    fields = _fields(name, options)
    words = _positional_words(arguments, fields)
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    said = []
    for field in fields:
        flags, what = field.argument.flags, field.argument.summary
        if flags:
            is_there = not given.isdisjoint(flags)
        else:
            is_there, words = words > 0, words - 1
        if field.is_needed and not is_there:
            said.append(f"{field.called} ({what[:1].lower()}{what[1:]})")
    return f"missing: {', '.join(said)}." if said else ""


def _fields(name: str, options: type) -> list[_Field]:
    """Returns the arguments of a command in their order."""
    hints = typing.get_type_hints(options, include_extras=True)
    shown = [
        field
        for field in dataclasses.fields(options)
        if tyro.conf.Suppress not in getattr(hints[field.name], "__metadata__", ())
    ]
    found = []
    for field, argument in zip(shown, completion.arguments_of(name), strict=True):
        marks = getattr(hints[field.name], "__metadata__", ())
        kind = hints[field.name].__origin__ if marks else hints[field.name]
        metavars = [mark.metavar for mark in marks if hasattr(mark, "metavar")]
        metavar = next(filter(None, metavars), f"{{{','.join(argument.choices)}}}")
        is_many = typing.get_origin(kind) is tuple
        is_many &= tyro.conf.UseAppendAction not in marks
        found.append(
            _Field(
                called=" ".join([*argument.flags[:1], metavar]),
                argument=argument,
                takes=math.inf if is_many else argument.takes_value,
                is_needed=field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING,
            )
        )
    return found


def _positional_words(arguments: Sequence[str], fields: Sequence[_Field]) -> int:
    """Returns how many words belong to no option."""
    found, taken = 0, 0.0
    for word in arguments:
        if word.startswith("--"):
            flag, equals, _ = word.partition("=")
            flag = flag.replace("_", "-")
            takes = sum(f.takes for f in fields if flag in f.argument.flags)
            taken = 0 if equals else takes
        elif taken:
            taken -= 1
        else:
            found += 1
    return found
