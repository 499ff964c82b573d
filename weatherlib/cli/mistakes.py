"""What is wrong with the words of a command, from what tyro says of them."""

from __future__ import annotations

import difflib
import pathlib
import re
from collections.abc import Sequence

from weatherlib.cli import completion, missing_arguments

__all__ = ["explain"]

_UNKNOWN = "Unrecognized options:"
_SEVERAL = (
    "several files are given as a pattern in quotes, such as 'era5/*.nc', or as their "
    "folder"
)


def explain(name: str, options: type, arguments: Sequence[str], box: str) -> str:
    """Returns one sentence or more that say what is wrong.

    Args:
      name: The command.
      options: Its options.
      arguments: Its words.
      box: What tyro drew around the mistake.
    """
    said = _first_paragraph(box)
    known = completion.arguments_of(name)
    found = _unknown_options(arguments, known)
    for look in (_spare_words, _wrong_value, _wrong_choice, _no_value):
        found = found or look(said, arguments, known)
    found = found or missing_arguments.explain(name, options, arguments, box)
    return found or said


def _wrong_value(
    said: str, arguments: Sequence[str], known: Sequence[completion.Argument]
) -> str:
    """Returns which value is no number where one is needed."""
    match = re.match(r"Error parsing ([^\s:]+):", said)
    argument = _named(match[1], known) if match else None
    if match is None or argument is None or not argument.expects:
        return ""
    number = int if "whole" in argument.expects else float
    given = _values(argument, arguments)
    wrong = [word for word in given if not _is_made_by(number, word)] or given
    found = f", found {' '.join(wrong)!r}" if wrong else ""
    return f"{_shown(argument, arguments)}: expected {argument.expects}{found}."


def _wrong_choice(
    said: str, arguments: Sequence[str], known: Sequence[completion.Argument]
) -> str:
    """Returns what there is to choose from."""
    match = re.match(r"invalid choice '(.*?)' for argument '(.*?)'\.", said)
    if match is None:
        return ""
    argument = _named(match[2], known) or next(
        (a for a in known if not a.flags and a.choices), None
    )
    if argument is None or not argument.choices:
        return ""
    choices = ", ".join(argument.choices)
    flag = _shown(argument, arguments)
    return f"{flag}: expected one of {choices}, found {match[1]!r}."


def _no_value(
    said: str, arguments: Sequence[str], known: Sequence[completion.Argument]
) -> str:
    """Returns which option lacks its value."""
    match = re.match(r"Missing value for argument '(.*?)'\.", said)
    argument = _named(match[1], known) if match else None
    if argument is None or not argument.flags:
        return ""
    expects = argument.expects or "a word"
    return f"{_shown(argument, arguments)}: expected {expects} after it, found nothing."


def _named(
    shown: str, known: Sequence[completion.Argument]
) -> completion.Argument | None:
    """Returns the argument that tyro calls by a name or by some spellings."""
    names = set(shown.split("/"))
    return next((a for a in known if names & {a.name, *a.flags}), None)


def _shown(argument: completion.Argument, arguments: Sequence[str]) -> str:
    """Returns an argument as it was written."""
    written = [word.partition("=")[0].replace("_", "-") for word in arguments]
    given = [flag for flag in argument.flags if flag in written]
    return (given or argument.flags or (argument.name,))[0]


def _values(argument: completion.Argument, arguments: Sequence[str]) -> list[str]:
    """Returns the words that were given to an option."""
    found: list[str] = []
    is_open = False
    for word in arguments:
        flag, equals, value = word.partition("=")
        if word.startswith("--"):
            is_open = flag.replace("_", "-") in argument.flags
            found += [value] if is_open and equals else []
        elif is_open:
            found.append(word)
    return found


def _is_made_by(number: type, word: str) -> bool:
    """Whether a word is a number of a kind."""
    try:
        number(word)
    except ValueError:
        return False
    return True


def _unknown_options(
    arguments: Sequence[str], known: Sequence[completion.Argument]
) -> str:
    """Returns which options a command does not have, each with the nearest it has."""
    has = {"--help", *(flag for argument in known for flag in argument.flags)}
    said = []
    for word in arguments:
        flag = word.partition("=")[0]
        if word.startswith("--") and flag.replace("_", "-") not in has:
            near = difflib.get_close_matches(flag, has, n=1, cutoff=0.55)
            hint = f" (did you mean {near[0]}?)" if near else ""
            said.append(f"there is no option {flag}{hint}")
    return "; ".join(said) + "." if said else ""


def _spare_words(
    said: str, arguments: Sequence[str], known: Sequence[completion.Argument]
) -> str:
    """Returns which words are more than an option or the command takes.

    A pattern without quotes becomes several words before the command sees it.
    """
    if not said.startswith(_UNKNOWN):
        return ""
    told = said.removeprefix(_UNKNOWN).replace(",", " ").split()
    spare = [word for word in arguments if word in told]
    if not spare:
        return ""
    before = list(arguments[: arguments.index(spare[0])])
    flags = {flag: a for a in known for flag in a.flags}
    owner = next((w for w in reversed(before) if w.startswith("--")), None)
    takes = flags.get(str(owner).replace("_", "-"))
    listed = ", ".join(spare)
    if owner is None or takes is None or not takes.takes_value:
        message = f"there is no place for {listed}"
    else:
        message = f"{owner} takes one word, found also {listed}"
    if any(pathlib.Path(word).exists() for word in spare):
        message += f"; {_SEVERAL}"
    return f"{message}."


def _first_paragraph(box: str) -> str:
    """Returns what is said first in the box that tyro draws around a mistake."""
    blocks: list[list[str]] = [[]]
    for line in box.splitlines():
        inside = line.strip(" \u2502|")
        if inside.startswith("\u256d") or not inside.strip("\u2500\u2570\u256f-+ "):
            blocks.append([])
        else:
            blocks[-1] += inside.split()
    said = [" ".join(words) for words in blocks if words]
    # Where the terminal has no lines to draw with, the title is a block of its own.
    titled = "\u256d" not in box and len(said) > 1
    return said[titled] if said else ""
