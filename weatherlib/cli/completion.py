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

from weatherlib.cli import completion_words, help_texts

__all__ = ["EXAMPLES", "Argument", "Options", "arguments_of", "run", "script"]

EXAMPLES = (
    "weatherlib completion bash > "
    "~/.local/share/bash-completion/completions/weatherlib",
    "weatherlib completion fish > ~/.config/fish/completions/weatherlib.fish",
)

# Metavars of files and folders; what follows a dot in one is a suffix.
_FILES = (
    "CONFIG",
    "DIR",
    "FILE",
    "FOLDER",
    "FORECASTS",
    "MODEL",
    "MODELS",
    "OUT",
    "PATH",
    "SOURCE",
)
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
      name: Of its field.
      flags: Its spellings; none for a positional argument.
      choices: Words that it takes, if those are all.
      after: Words of which one must be the first of the command for these choices; none
        where they hold always.
      takes_value: Whether a word follows it.
      takes_several: Whether several words may do so.
      takes_file: Whether that is a file or folder.
      expects: What that is, where it is no text: "a whole number".
      summary: The first line of its help.
    """

    name: str
    flags: tuple[str, ...]
    choices: tuple[str, ...]
    after: tuple[str, ...] = ()
    takes_value: bool
    takes_several: bool
    takes_file: bool
    expects: str
    summary: str


def run(options: Options) -> None:
    """Prints the script."""
    print(script(options.shell), end="")


def script(shell: Shell) -> str:
    """Returns the completion script of a shell."""
    from weatherlib.cli import main

    table = {
        name: [_with_words(name, argument) for argument in arguments_of(name)]
        for name in main.COMMANDS
    }
    summaries = {name: command.summary for name, command in main.COMMANDS.items()}
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return make(table, summaries)


def _with_words(command: str, argument: Argument) -> Argument:
    """Returns an argument with words that its type does not tell."""
    words = argument.choices or completion_words.words_of(command, argument.name)
    is_published = (command, argument.name) == ("weights", "name")
    after = completion_words.FETCHED_BY if is_published else ()
    return dataclasses.replace(argument, choices=words, after=after)


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
        metavar = next((m.metavar for m in settings if m.metavar), "")
        aliases = [a for m in settings for a in (m.aliases or ())]
        flags = (f"--{field.name.replace('_', '-')}", *aliases)
        found.append(
            Argument(
                name=field.name,
                flags=() if tyro.conf.Positional in marks else flags,
                choices=_choices(kind),
                takes_value=kind is not bool,
                takes_several=typing.get_origin(kind) is tuple
                and tyro.conf.UseAppendAction not in marks,
                takes_file=metavar.partition(".")[0] in _FILES,
                expects=_expected(kind),
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


def _expected(kind: Any) -> str:
    """Returns what a type is in words; empty for text and choices."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(filter(None, map(_expected, parts)), "")
    if typing.get_origin(kind) is not tuple:
        return {int: "a whole number", float: "a number"}.get(kind, "")
    many = _expected(parts[0]).removeprefix("a ")
    if not many:
        return ""
    return f"{many}s" if parts[-1] is ... else f"{len(parts)} {many}s"


def _bash(table: dict[str, list[Argument]], summaries: dict[str, str]) -> str:
    del summaries
    flags, several, values, placed = [], [], [], []
    for name, arguments in table.items():
        words = " ".join(flag for a in arguments for flag in a.flags)
        flags.append(f'    {name}) words="{words} --help --debug" ;;')
        # The command itself is word 1.
        for number, argument in enumerate([a for a in arguments if not a.flags], 2):
            places = [f"{name}:{number}:{word}" for word in argument.after or "*"]
            if argument.choices:
                placed.append(f"    {'|'.join(places)}) {_bash_words(argument)} ;;")
        for argument in (a for a in arguments if a.flags and a.takes_value):
            places = "|".join(f"{name}:{flag}" for flag in argument.flags)
            action = "files=1" if argument.takes_file else "return"
            action = _bash_words(argument) if argument.choices else action
            values.append(f"    {places}) {action} ;;")
            if argument.takes_several:
                several.append(places)
    return "\n".join(
        [
            "# Completion of weatherlib for bash.",
            "_weatherlib() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" files="" words=""',
            '  local last="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
            "  local i=$(( COMP_CWORD - 1 ))",
            "  COMPREPLY=()",
            "  if (( COMP_CWORD == 1 )); then",
            f'    words="{" ".join(table)} --help --version"',
            '    COMPREPLY=($(compgen -W "$words" -- "$word")); return',
            "  fi",
            '  while (( i > 2 )) && [[ "${COMP_WORDS[i]}" != -* ]]; do (( i-- )); done',
            '  case "$command:${COMP_WORDS[i]}" in',
            f'    {"|".join(several)}) last="${{COMP_WORDS[i]}}" ;;',
            "  esac",
            '  if [[ "$word" == -* ]]; then',
            '    case "$command" in',
            *[f"  {line}" for line in flags],
            "    esac",
            "  else",
            '    case "$command:$last" in',
            *[f"  {line}" for line in values],
            "    esac",
            "  fi",
            '  if [[ -z "$words$files" ]]; then',
            '    case "$command:$COMP_CWORD:${COMP_WORDS[2]}" in',
            *[f"  {line}" for line in placed],
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


def _bash_words(argument: Argument) -> str:
    return f'words="{" ".join(argument.choices)}"'


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
        places = iter(range(1, len(arguments) + 1))
        for argument in arguments:
            text = argument.summary
            for old, new in (("\\", "\\\\"), ("[", "\\["), ("]", "\\]"), (":", "\\:")):
                text = text.replace(old, new)
            action = _zsh_action(argument)
            if not argument.flags:
                place = "*" if argument.takes_several else next(places)
                lines.append(f"        {_quoted(f'{place}:{text}:{action}')} \\")
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


def _zsh_action(argument: Argument) -> str:
    """Returns what offers the values of an argument."""
    words = " ".join(argument.choices)
    if argument.after:
        test = " || ".join(f"${{words[2]}} == {word}" for word in argument.after)
        return f"{{ if [[ {test} ]]; then compadd - {words}; else _files; fi }}"
    if words:
        return f"({words})"
    return "_files" if argument.takes_file or not argument.flags else ""


def _fish(table: dict[str, list[Argument]], summaries: dict[str, str]) -> str:
    lines = [
        "# Completion of weatherlib for fish.",
        "function __weatherlib_last -d 'Whether an option is the last of the line'",
        "  set -l given (string match -- '-*' (commandline -opc))",
        '  test (count $given) -gt 0; and test "$given[-1]" = $argv[1]',
        "end",
        "complete -c weatherlib -f",
    ]
    for name, summary in summaries.items():
        lines.append(
            "complete -c weatherlib -n __fish_use_subcommand "
            f"-a {name} -d {_quoted(summary)}"
        )
    for name, arguments in table.items():
        seen = f"__fish_seen_subcommand_from {name}"
        placed = [argument for argument in arguments if not argument.flags]
        for argument in arguments:
            found = (
                _fish_options(argument, seen)
                if argument.flags
                else [f"-n '{seen}{_fish_place(argument, placed)}"]
            )
            lines += [
                f"complete -c weatherlib {line} -d {_quoted(argument.summary)}"
                for line in found
            ]
    return "\n".join([*lines, ""])


def _fish_place(argument: Argument, placed: list[Argument]) -> str:
    """Returns the rest of a condition, and the values, of a positional argument.

    Args:
      argument: It.
      placed: All that the command has.
    """
    has = "; and {}__fish_seen_subcommand_from {}"
    words = " ".join(argument.choices)
    test = ""
    if argument.after:
        test = has.format("", " ".join(argument.after))
    elif words and len(placed) > 1:
        test = has.format("not ", words)
    elif not words:
        first = " ".join(placed[0].choices)
        others = [" ".join(other.after) for other in placed if other.after]
        tests = [has.format("", first)] if first else []
        test = "".join(tests + [has.format("not ", other) for other in others])
    return f"{test}' " + (f"-a {_quoted(words)}" if words else "-F")


def _fish_options(argument: Argument, seen: str) -> list[str]:
    """Returns conditions, spellings and values of an option."""
    choices = _quoted(" ".join(argument.choices))
    lines = []
    for flag in argument.flags:
        what = f"-n '{seen}' -l {flag.removeprefix('--')}"
        if argument.choices:
            what += f" -x -a {choices}"
        elif argument.takes_value:
            what += " -r -F" if argument.takes_file else " -x"
        lines.append(what)
        if argument.choices and argument.takes_several:
            lines.append(f"-n '{seen}; and __weatherlib_last {flag}' -a {choices}")
    return lines


def _quoted(text: str) -> str:
    """Returns a text in single quotes, as all three shells read it."""
    return "'" + text.replace("'", "'\\''") + "'"
