"""Pre-trains a small ClimaX, tunes it, and compares it with one trained from scratch.

    weatherlib simulate archive.nc --days 400
    python examples/finetune_climax.py archive.nc

On WeatherBench data of 5.625 degrees:

    python examples/finetune_climax.py 5.625deg --train-end 2016-01-01 \
        --held-out 2017-01-01

Pre-training learns all lead times up to 162 h, tuning a few of them. The network from
scratch is tuned as long, in the same way, without what pre-training taught. Direct
forecasts of all three, and persistence and climatology, are scored on times that none
of them has seen. An interrupted run is continued by the same command.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

import pandas as pd
import xarray

from weatherlib import data, host_memory, training
from weatherlib.cli import console, reporting, runs, settings
from weatherlib.cli import main as commands
from weatherlib.data_utils import times

CONFIGS = pathlib.Path(__file__).parent / "configs"
VARIABLES = ("geopotential", "temperature", "2m_temperature", "10m_u_component_of_wind")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Returns what the command line says."""
    parser = reporting.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("archive", help="file or folder that weatherlib opens")
    parser.add_argument("--output", type=pathlib.Path, default="runs/climax_example")
    parser.add_argument("--train-end", default="2002-01-01")
    parser.add_argument("--held-out", default="2002-01-15", help="first time to score")
    parser.add_argument("--pretrain-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=600, help="of tuning")
    parser.add_argument("--leads", nargs="+", default=["6h", "24h", "48h", "72h"])
    parser.add_argument("--every", default="12h", help="between scored starts")
    parser.add_argument("--starts", type=int, default=24, help="most starts to score")
    return parser.parse_args(words)


def train(
    name: str, args: argparse.Namespace, folder: pathlib.Path, *changes: str
) -> pathlib.Path:
    """Trains an example configuration, or goes on with it, and returns the weights."""
    config = settings.read(
        training.TrainConfig,
        CONFIGS / name,
        [
            f"output={folder}",
            f"data.path={args.archive}",
            f"data.train.end={args.train_end}",
            # The last weights count, so that nothing is chosen by what is scored.
            "data.validation=null",
            *changes,
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    out = console.Console()
    out.print(f"\n{folder.name}")
    run = runs.Run(config, out=out)
    result = run.train(resume=True)
    out.print(f"  {result.step} updates in {result.seconds:.0f} s, {result.ended}")
    return folder / "checkpoint.npz"


def starts(args: argparse.Namespace) -> str:
    """Returns the starts to score, as `weatherlib predict --init` takes them."""
    dataset = data.open_dataset(args.archive)
    held = dataset["datetime" if "datetime" in dataset.coords else "time"].values
    longest = max(times.as_timedelta(lead) for lead in args.leads)
    first = pd.Timestamp(args.held_out)
    last = pd.Timestamp(held.ravel()[-1]) - longest
    every = times.as_timedelta(args.every)
    if last < first:
        raise SystemExit(f"{args.archive} ends before {first + longest}")
    last = min(last, first + (args.starts - 1) * every)
    hours = round(every.total_seconds() / 3600)
    return f"{first:%Y-%m-%dT%H}:{last:%Y-%m-%dT%H}:{hours}h"


def score(
    models: dict[str, pathlib.Path], lead: str, args: argparse.Namespace
) -> xarray.Dataset:
    """Returns errors of direct forecasts over one lead time, and of the references."""
    folder = args.output / "scores"
    files = []
    for name, weights in models.items():
        hindcasts = folder / f"{name}_{lead}.nc"
        files.append(f"{name}={hindcasts}")
        _run(
            "predict", "--model", weights, "--data", args.archive, "--conform",
            "--init", starts(args), "--lead", lead, "--out-dir", folder,
            "--output", hindcasts,
        )  # fmt: skip
    begin = data.open_dataset(args.archive)
    held = begin["datetime" if "datetime" in begin.coords else "time"].values
    end = pd.Timestamp(args.train_end) - pd.Timedelta("1h")
    period = f"{pd.Timestamp(held.ravel()[0]):%Y-%m-%dT%H}:{end:%Y-%m-%dT%H}"
    _run(
        "evaluate", *files, "--truth", args.archive, "--period", period,
        "--references", "persistence", "climatology", "--metrics", "rmse",
        "--variables", *VARIABLES, "--levels", 500, 850, "--regions", "global",
        "--weighting", "cosine", "--out-dir", folder, "--name", f"scores_{lead}",
    )  # fmt: skip
    return xarray.load_dataset(folder / f"scores_{lead}.nc", decode_timedelta=True)


def table(scores: dict[str, xarray.Dataset]) -> str:
    """Returns errors by variable and lead time, a column for each model."""
    names: list[str] = []
    lines = []
    for lead, found in scores.items():
        names = [str(name) for name in found["model"].values]
        rmse = found.sel(metric="rmse").squeeze(drop=True)
        for variable in VARIABLES:
            if variable not in rmse:
                continue
            array = rmse[variable]
            levels = array["level"].values if "level" in array.dims else [None]
            for level in levels:
                row = array if level is None else array.sel(level=level)
                label = variable if level is None else f"{variable}@{level:g}"
                values = "".join(f"{float(row.sel(model=n)):14.5g}" for n in names)
                lines.append(f"{lead:>5} {label:26s}{values}")
    head = "".join(f"{name:>14}" for name in names)
    return "\n".join([f"{'lead':>5} {'RMSE':26s}{head}", *lines])


def _run(*words: object) -> None:
    if code := commands.main([str(word) for word in words]):
        raise SystemExit(code)


def compare(args: argparse.Namespace) -> None:
    """Trains the three networks and prints the table."""
    longest = f"stages.0.steps={args.pretrain_steps}"
    pretrained = train(
        "climax_pretrain.yaml", args, args.output / "pretrained", longest
    )
    leads = f"stages.0.lead=[{', '.join(args.leads)}]"
    tuning = (f"stages.0.steps={args.steps}", leads)
    models = {
        "tuned": train(
            "climax_finetune.yaml", args, args.output / "tuned", *tuning,
            f"init_from={pretrained}",
        ),
        "scratch": train(
            "climax_finetune.yaml", args, args.output / "scratch", *tuning,
            "init_from=null",
        ),
    }  # fmt: skip
    (args.output / "scores").mkdir(exist_ok=True)
    everything = {"pretrained": pretrained, **models}
    scores = {lead: score(everything, lead, args) for lead in args.leads}
    text = table(scores)
    (args.output / "table.txt").write_text(text + "\n", encoding="utf8")
    print(f"\n{text}\n{args.output}/table.txt")


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 after an error that a user can put right."""
    return reporting.run_reported(lambda: compare(parse(words)))


if __name__ == "__main__":
    host_memory.keep_freed()
    sys.exit(main())
