r"""Print what lets a shell complete the commands and options of weatherlib.

The script knows every command, option and choice, so completing starts no Python. Put
it where the shell looks for it, and make it anew after an update:

  bash  ~/.local/share/bash-completion/completions/weatherlib
  zsh   a file _weatherlib in a folder of $fpath
  fish  ~/.config/fish/completions/weatherlib.fish

A bash without the package bash-completion takes this line in ~/.bashrc:

  source <(weatherlib completion bash)
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from typing import Annotated, Any, Literal

import tyro

from weatherlib.cli import help_texts

__all__ = ["EXAMPLES", "Argument", "Options", "arguments_of", "run", "script"]

EXAMPLES = (
    "weatherlib completion bash > "
    "~/.local/share/bash-completion/completions/weatherlib",
    "weatherlib completion fish > ~/.config/fish/completions/weatherlib.fish",
)

_FILES = ("PATH", "FILE", "DIR", "SOURCE")
Shell = Literal["bash", "zsh", "fish"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """For which shell."""

    shell: Annotated[Shell, tyro.conf.Positional]
    """bash, zsh or fish."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Argument:
    """One option or positional argument of a command.

    Attributes:
      flags: Its spellings; none for a positional argument.
      choices: Words that it takes, if those are all.
      takes_value: Whether a word follows it.
      takes_file: Whether that is a file or folder.
      summary: The first line of its help.
    """

    flags: tuple[str, ...]
    choices: tuple[str, ...]
    takes_value: bool
    takes_file: bool
    summary: str


def run(options: Options) -> None:
    """Prints the script."""
    print(script(options.shell), end="")


def script(shell: Shell) -> str:
    """Returns the completion script of a shell."""
    from weatherlib.cli import main

    table = {name: arguments_of(name) for name in main.COMMANDS}
    summaries = {name: command.summary for name, command in main.COMMANDS.items()}
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return make(table, summaries)


def arguments_of(command: str) -> list[Argument]:
    """Returns the arguments of a command, from the dataclass of its options."""
    from weatherlib.cli import main

    options = importlib.import_module(main.COMMANDS[command].module).Options
    # Names that a module imports for type checkers only do not occur in options.
    hints = typing.get_type_hints(options, include_extras=True)
    texts = help_texts.texts_of(options)
    found = []
    for field in dataclasses.fields(options):
        hint = hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        if tyro.conf.Suppress in marks:
            continue
        kind = hint.__origin__ if marks else hint
        settings = [mark for mark in marks if hasattr(mark, "aliases")]
        metavar = next((m.metavar for m in settings if m.metavar), None)
        aliases = [a for m in settings for a in (m.aliases or ())]
        flags = (f"--{field.name.replace('_', '-')}", *aliases)
        found.append(
            Argument(
                flags=() if tyro.conf.Positional in marks else flags,
                choices=_choices(kind),
                takes_value=kind is not bool,
                takes_file=metavar in _FILES,
                summary=texts.get(field.name, "").split(". ")[0].rstrip("."),
            )
        )
    return found


def _choices(kind: Any) -> tuple[str, ...]:
    """Returns the words of a Literal, alone or in a union."""
    if typing.get_origin(kind) is Literal:
        return tuple(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(w for part in typing.get_args(kind) for w in _choices(part))
    return ()


def _bash(table: dict[str, list[Argument]], summaries: dict[str, str]) -> str:
    del summaries
    flags, values, first = [], [], []
    for name, arguments in table.items():
        words = " ".join(flag for a in arguments for flag in a.flags)
        flags.append(f'    {name}) words="{words} --help --debug" ;;')
        for argument in arguments:
            places = [f"{name}:{flag}" for flag in argument.flags]
            if not argument.flags and argument.choices:
                first.append(f'    {name}) words="{" ".join(argument.choices)}" ;;')
            elif argument.choices:
                action = f'words="{" ".join(argument.choices)}"'
                values.append(f"    {'|'.join(places)}) {action} ;;")
            elif argument.takes_file and places:
                values.append(f"    {'|'.join(places)}) files=1 ;;")
            elif argument.takes_value and places:
                values.append(f"    {'|'.join(places)}) return ;;")
    return "\n".join(
        [
            "# Completion of weatherlib for bash.",
            "_weatherlib() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" files="" words=""',
            '  local last="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
            "  COMPREPLY=()",
            "  if (( COMP_CWORD == 1 )); then",
            f'    words="{" ".join(table)} --help --version"',
            '    COMPREPLY=($(compgen -W "$words" -- "$word")); return',
            "  fi",
            '  case "$command:$last" in',
            *values,
            "  esac",
            '  if [[ -z "$words$files" && "$word" == -* ]]; then',
            '    case "$command" in',
            *[f"  {line}" for line in flags],
            "    esac",
            '  elif [[ -z "$words$files" ]] && (( COMP_CWORD == 2 )); then',
            '    case "$command" in',
            *[f"  {line}" for line in first],
            "    esac",
            "  fi",
            '  if [[ -n "$words" ]]; then',
            '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "  else",
            "    compopt -o filenames 2>/dev/null",
            "    local line",
            '    while IFS= read -r line; do COMPREPLY+=("$line"); done \\',
            '      < <(compgen -f -- "$word")',
            "  fi",
            "}",
            "complete -F _weatherlib weatherlib",
            "",
        ]
    )


def _zsh(table: dict[str, list[Argument]], summaries: dict[str, str]) -> str:
    lines = ["#compdef weatherlib", "_weatherlib() {", "  local -a commands", ""]
    lines.append("  commands=(")
    lines += [f"    {_quoted(f'{n}:{s}')}" for n, s in summaries.items()]
    lines += [
        "  )",
        "  if (( CURRENT == 2 )); then",
        "    _describe command commands; return",
        "  fi",
        "  local command=${words[2]}",
        "  shift words; (( CURRENT-- ))",
        "  case $command in",
    ]
    for name, arguments in table.items():
        lines += [f"    {name})", "      _arguments \\"]
        for argument in arguments:
            text = argument.summary
            for old, new in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), (":", "\\:")):
                text = text.replace(old, new)
            action = "_files" if argument.takes_file or not argument.flags else ""
            if argument.choices:
                action = f"({' '.join(argument.choices)})"
            if not argument.flags:
                lines.append(f"        {_quoted(f'::{text}:{action}')} \\")
            for flag in argument.flags:
                value = f":value:{action}" if argument.takes_value else ""
                lines.append(f"        {_quoted(f'{flag}[{text}]{value}')} \\")
        lines += ["        '--help[Show help]'", "      ;;"]
    lines += ["  esac", "}", 'if [ "$funcstack[1]" = "_weatherlib" ]; then']
    lines += [
        '  _weatherlib "$@"',
        "else",
        "  compdef _weatherlib weatherlib",
        "fi",
        "",
    ]
    return "\n".join(lines)


def _fish(table: dict[str, list[Argument]], summaries: dict[str, str]) -> str:
    lines = ["# Completion of weatherlib for fish.", "complete -c weatherlib -f"]
    for name, summary in summaries.items():
        lines.append(
            "complete -c weatherlib -n __fish_use_subcommand "
            f"-a {name} -d {_quoted(summary)}"
        )
    for name, arguments in table.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for argument in arguments:
            text = f"-d {_quoted(argument.summary)}"
            choices = _quoted(" ".join(argument.choices))
            if not argument.flags:
                what = f"-a {choices}" if argument.choices else "-F"
                lines.append(f"complete -c weatherlib {seen} {what} {text}")
            for flag in argument.flags:
                what = f"-l {flag.removeprefix('--')}"
                if argument.choices:
                    what += f" -x -a {choices}"
                elif argument.takes_value:
                    what += " -r -F" if argument.takes_file else " -x"
                lines.append(f"complete -c weatherlib {seen} {what} {text}")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Returns a text in single quotes, as all three shells read it."""
    return "'" + text.replace("'", "'\\''") + "'"
