"""Entry point of the command `weatherlib`.

Commands are looked up in a table and imported only when they are called, so `--help`
answers at once. A new command is one module with `Options` and `run`, and one line in
`COMMANDS`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import io
import sys
from collections.abc import Sequence
from typing import Any

import weatherlib
from weatherlib import host_memory
from weatherlib.cli import reporting

__all__ = ["COMMANDS", "Command", "main"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand.

    Attributes:
      module: Module with a frozen dataclass `Options`, a function `run(options)`, and
        `EXAMPLES`, command lines for the help.
      summary: One line for the list of commands.
    """

    module: str
    summary: str


COMMANDS = {
    "predict": Command(
        module="weatherlib.cli.predict",
        summary="Make a forecast: file, maps and scores. Needs no argument.",
    ),
    "evaluate": Command(
        module="weatherlib.cli.evaluate",
        summary="Score forecasts against what happened, beside references.",
    ),
    "stats": Command(
        module="weatherlib.cli.stats",
        summary="Make normalisation statistics or a climatology from an archive.",
    ),
    "train": Command(
        module="weatherlib.cli.train",
        summary="Train a model from a configuration file, or continue.",
    ),
    "plot": Command(
        module="weatherlib.cli.plot",
        summary="Draw maps or an animation of a forecast or any weather file.",
    ),
    "reconstruct": Command(
        module="weatherlib.cli.reconstruct",
        summary="Encode and decode weather, and say what an autoencoder keeps of it.",
    ),
    "info": Command(
        module="weatherlib.cli.info",
        summary="Say what a checkpoint or a weather file contains, and if they fit.",
    ),
    "weights": Command(
        module="weatherlib.cli.weights",
        summary="List published weights and data, fetch them, convert them.",
    ),
    "shards": Command(
        module="weatherlib.cli.shards",
        summary="Cut an archive into the NumPy shards that ClimaX is trained on.",
    ),
    "nowcast": Command(
        module="weatherlib.cli.nowcast",
        summary="Nowcast radar pictures, and score it beside references.",
    ),
    "sevir-lr": Command(
        module="weatherlib.cli.sevir_lr",
        summary="Make SEVIR-LR, which PreDiff is trained on, of SEVIR.",
    ),
    "completion": Command(
        module="weatherlib.cli.completion",
        summary="Print what lets a shell complete commands, options and files.",
    ),
    "simulate": Command(
        module="weatherlib.cli.simulate",
        summary="Make weather to learn from, without any download.",
    ),
}

_HELP = """\
usage: weatherlib COMMAND [OPTIONS]

Machine-learned weather forecasts.

Commands:
{commands}

Options:
  --version   Print the version.
  --debug     Show the full Python traceback of any error.
  -h, --help  Show this, or with a command its options and examples.

Examples:
  weatherlib predict
      Ten days with the bundled model from bundled weather, no network needed.
  weatherlib predict --pretrained graphcast.npz --stats stats --dataset era5.nc \\
      --steps 40 --output forecast.zarr
  weatherlib plot forecast.zarr --var geopotential --level 500 --animate
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code of the process.

    Args:
      argv: Arguments after the program's name. Default: those of the process.

    Returns:
      0 on success, 2 where the user can put it right, 130 after Ctrl-C.
    """
    if argv is None:
        host_memory.keep_freed()
        reporting.own_the_log()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {n:{width}}   {c.summary}" for n, c in COMMANDS.items()]
        print(_HELP.format(commands="\n".join(lines)), end="")
        return 0
    if name == "--version":
        print(f"weatherlib {weatherlib.__version__}")
        return 0
    if name not in COMMANDS:
        return reporting.complain(_unknown_command(name))
    try:
        code = reporting.run_reported(lambda: _run(name, rest), debug=debug)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 2
    if argv is None and code and not debug:
        reporting.hush_the_end()
    return code


def _unknown_command(name: str) -> str:
    """Returns that there is no such command, with the nearest and all there are."""
    what, known = "command", list(COMMANDS)
    if name.startswith("-"):
        what, known = "option", ["--version", "--debug", "--help"]
    near = [word for word in known if word.startswith(name)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no {what} {name!r}{hint}; the {what}s are {', '.join(known)}"


def _run(name: str, arguments: list[str]) -> None:
    """Reads the options of a command and runs it."""
    import tyro

    from weatherlib.cli import help_texts

    module = importlib.import_module(COMMANDS[name].module)
    description = help_texts.joined(module.__doc__ or "")
    shown: Any = help_texts.Folding(sys.stdout, description)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
            options = tyro.cli(
                help_texts.explained(module.Options),
                prog=f"weatherlib {name}",
                description=description,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as leave:
        if leave.code == 0:
            print("Examples:", *module.EXAMPLES, sep="\n  ")
            raise
        from weatherlib.cli import mistakes

        box = said.getvalue()
        message = mistakes.explain(name, module.Options, arguments, box)
        reporting.complain(f"{message} `weatherlib {name} --help` tells more")
        raise
    module.run(options)


if __name__ == "__main__":
    sys.exit(main())
