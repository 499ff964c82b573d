"""The texts of `--help`: lines of the source joined to paragraphs, and folded."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import shutil
import textwrap
import typing
from typing import Annotated, Any, TextIO

__all__ = ["Folding", "explained", "joined", "texts_of"]

# Of a line that stays by itself.
_APART = (" ", "- ", "* ")


def joined(text: str) -> str:
    """Returns a text with each paragraph in one line.

    Lines that are indented, or begin with a dash or a star, stay as they are.

    Args:
      text: Such as a docstring.
    """
    lines: list[str] = []
    for line in inspect.cleandoc(text).rstrip().splitlines():
        last = lines[-1] if lines else ""
        if last and line and not _is_apart(line) and not _is_apart(last):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def texts_of(options: type) -> dict[str, str]:
    """Returns the text below each field of a dataclass, paragraphs in one line each."""
    source = textwrap.dedent(inspect.getsource(options))
    body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
    found = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
            name = typing.cast(ast.Name, before.target).id
            found[name] = joined(str(ast.literal_eval(after.value)))
    return found


def explained(options: type) -> type:
    """Returns options whose help is made of whole paragraphs.

    It does not show a default that is nothing, or that the text tells.

    Args:
      options: A dataclass, whose annotations are changed.
    """
    import tyro

    hints = typing.get_type_hints(options, include_extras=True)
    texts = texts_of(options)
    for field in dataclasses.fields(options):
        hint, text = hints[field.name], texts.get(field.name, "")
        marks = getattr(hint, "__metadata__", ())
        said: str | None = None
        if field.default in (None, ()) and tyro.conf.UseAppendAction not in marks:
            said = "(optional)" if tyro.conf.Positional in marks else ""
        elif "Default:" in text:
            said = ""
        given = any(getattr(mark, "help", None) for mark in marks)
        changed = tyro.conf.arg(
            help=None if given or not text else text, help_behavior_hint=said
        )
        options.__annotations__[field.name] = Annotated[hint, changed]
    return options


class Folding:
    """A stream that folds some paragraphs to the width of the terminal.

    tyro prints a description as long lines, which a terminal cuts within words.
    """

    def __init__(self, stream: TextIO, text: str) -> None:
        """Writes to another stream.

        Args:
          stream: It.
          text: As `joined` returns it, part of what will be written.
        """
        self._stream = stream
        width = shutil.get_terminal_size().columns
        self._folded = {
            line: textwrap.fill(
                line, width, break_long_words=False, break_on_hyphens=False
            )
            for line in text.splitlines()
            if len(line) > width and not _is_apart(line)
        }

    def __getattr__(self, name: str) -> Any:
        """Returns what the other stream has."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text; more than one empty line become one."""
        for line, folded in self._folded.items():
            text = text.replace(line, folded)
        return self._stream.write(re.sub("\n{3,}", "\n\n", text))


def _is_apart(line: str) -> bool:
    return line.startswith(_APART)
