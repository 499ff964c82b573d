"""What is wrong with the words of a command, from what tyro says of them."""

from __future__ import annotations

import difflib
import pathlib
from collections.abc import Sequence

from weatherlib.cli import completion

__all__ = ["explain"]

_UNKNOWN = "Unrecognized options:"
_SEVERAL = (
    "several files are given as a pattern in quotes, such as 'era5/*.nc', or as their "
    "folder"
)


def explain(name: str, arguments: Sequence[str], box: str) -> str:
    """Returns one sentence or more that say what is wrong.

    Args:
      name: The command.
      arguments: Its words.
      box: What tyro drew around the mistake.
    """
    said = _first_paragraph(box)
    known = completion.arguments_of(name)
    found = _unknown_options(arguments, known) if _UNKNOWN in box else ""
    if not found and said.startswith(_UNKNOWN):
        found = _spare_words(said, arguments, known)
    return found or said


def _unknown_options(
    arguments: Sequence[str], known: Sequence[completion.Argument]
) -> str:
    """Returns which options a command does not have, each with the nearest it has."""
    has = {flag for argument in known for flag in argument.flags}
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
