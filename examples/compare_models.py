r"""Trains several models on one data set with one budget, and compares them.

    weatherlib simulate archive.nc --days 400
    python examples/compare_models.py --data archive.nc --budget 2000

Each model is trained as `weatherlib train` would, with the same variables, frames, loss
and budget: so many updates (--budget 2000), or so much time without compiling (--budget
5min). Then it forecasts from times that none has seen, which are scored beside
persistence, climatology and ridge regression. Written are comparison.png (what is
reached and what it costs), comparison.csv and .md, and all scores. Models that are
finished are not trained again, and an interrupted one goes on: repeat the command.

Without more options, variables, levels and periods follow from the data. For the two
months of ERA5 and the years of ERA-Interim that the guide to training names:

    python examples/compare_models.py --output runs/compare_era5 --budget 10min \
        --data era5_msl.nc
    python examples/compare_models.py --output runs/compare_eraint --budget 10min \
        --data eraint.nc

Some models, of other sizes, with further inputs:

    python examples/compare_models.py --data archive.nc --models convlstm pixel_unet \
        --set convlstm.hidden_channels=32 --inputs land_sea_mask
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import xarray

from weatherlib import data, evaluation, host_memory, plotting
from weatherlib.baselines import registry
from weatherlib.cli import (
    comparing,
    comparison_plan,
    console,
    files,
    reporting,
    score_pictures,
)

REFERENCES = ("persistence", "climatology", "ridge")
# Others need weights, autoencoders or settings first; they are compared where named.
COMPARED = ("residual_cnn", *registry.MODELS)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    found = reporting.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="compare_models.py --data SOURCE [options]",
    )
    add = found.add_argument
    known = ", ".join(COMPARED)
    add("--data", required=True, metavar="SOURCE", help="anything weatherlib opens")
    add("--models", nargs="+", metavar="NAME", help=f"default: all of {known}")
    add("--budget", default="1000", help="updates of each, or a time such as 5min")
    add("--output", type=pathlib.Path, default=pathlib.Path("runs/compare"))
    add("--variables", nargs="+", default=[], metavar="NAME", help="to predict")
    add("--levels", nargs="+", type=int, default=[], metavar="HPA")
    add("--inputs", nargs="+", default=[], metavar="NAME", help="read besides")
    add("--held-out", metavar="TIME", help="first time to score; default: last fifth")
    add("--starts", type=int, default=30, help="most starts to score")
    add("--input-length", type=int, default=12, help="frames that are read")
    add("--output-length", type=int, default=4, help="frames predicted at once")
    add("--frames", type=int, help="frames to score; default: --output-length")
    add("--batch-size", type=int, default=8)
    add("--references", nargs="+", default=REFERENCES, metavar="NAME")
    add(
        "--as-published",
        action="store_true",
        help="predict states, with zeros beyond the edges of the grid; default: "
        "changes, and edges that go on around the globe",
    )
    add(
        "--keep-climatology",
        action="store_true",
        help="leave waves of year and day in the data",
    )
    add("--set", action="append", default=[], metavar="MODEL.KEY=VALUE")
    add("--seed", type=int, default=0)
    add("--one", help=argparse.SUPPRESS)
    return found


def as_request(args: argparse.Namespace) -> comparison_plan.Request:
    """Returns the options in the form of the library.

    Raises:
      ValueError: One is wrong.
    """
    same = (
        "data", "budget", "held_out", "starts", "input_length", "output_length",
        "batch_size", "as_published", "keep_climatology", "seed",
    )  # fmt: skip
    return comparison_plan.Request(
        variables=tuple(args.variables),
        levels=tuple(args.levels),
        inputs=tuple(args.inputs),
        changes=tuple(args.set),
        frames=args.output_length if args.frames is None else args.frames,
        **{name: getattr(args, name) for name in same},
    )


def compare(words: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
      ValueError: Data, models and options do not go together, or a model failed.
      OSError: Something cannot be read or written.
    """
    args = parser().parse_args(words)
    if both := set(args.models or ()) & set(args.references):
        raise ValueError(
            f"--models {', '.join(sorted(both))}: is scored beside the models already; "
            "leave it out, or give --references without it"
        )
    request = as_request(args)
    plan = comparison_plan.make_plan(request)
    judged = evaluation.Settings(
        metrics=("rmse",),
        regions=("domain",),
        weighting="cosine",
        references=tuple(args.references),
        period=plan.period,
    )
    if args.one:
        comparing.measure(args.one, request, plan, args.output / args.one)
        return
    files.writable_folder(args.output)
    folders = {name: args.output / name for name in args.models or COMPARED}
    done = {
        name: comparing.keep_request(name, request, plan, folder)
        for name, folder in folders.items()
    }
    out, failed = console.Console(), []
    for name in folders:
        out.heading(name)
        if done[name]:
            out.print("  finished before")
        # A process for each, so that memory and time are its own.
        elif subprocess.call([sys.executable, __file__, *words, "--one", name]):  # noqa: S603
            failed.append(name)
    finished = {name: path for name, path in folders.items() if name not in failed}
    if finished:
        report(out, finished, args, judged)
    if failed:
        raise ValueError(
            f"{', '.join(failed)}: failed, for the reason said above; compared was "
            f"{', '.join(finished) or 'nothing'}"
        )


def report(
    out: console.Console,
    folders: dict[str, pathlib.Path],
    args: argparse.Namespace,
    judged: evaluation.Settings,
) -> None:
    """Scores the forecasts of all models, and writes scores, table and picture."""
    scores = evaluation.accumulate(
        {n: data.open_dataset(f / comparing.FORECASTS) for n, f in folders.items()},
        data.open_dataset(args.data),
        judged,
    ).results()
    evaluation.write_results(scores, args.output / "scores.nc")
    evaluation.write_csv(scores, args.output / "scores.csv")
    errors, costs = score_pictures.curves(scores, "rmse"), comparing.costs(folders)
    heading, rows = table(errors, costs)
    out.heading("Costs and errors")
    out.table(heading, rows)
    lines = [heading, ["---"] * len(heading), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (args.output / "comparison.md").write_text(text + "\n", "utf8")
    flat = errors.to_dataframe().unstack("time")
    flat.columns = [f"{name} {_hours(lead)}" for name, lead in flat.columns]
    frame = costs.to_dataframe().join(flat, how="right")
    frame.to_csv(args.output / "comparison.csv")
    figure = plotting.draw_skill_and_cost(
        errors,
        costs,
        baseline=args.references[0],
        title=f"{args.budget}{' updates' if args.budget.isdigit() else ''} of training",
    )
    plotting.save_figure(figure, args.output / "comparison.png")
    out.print(
        f"  {args.output}/comparison.png, comparison.csv, comparison.md, scores.nc"
    )


def table(
    errors: xarray.Dataset, costs: xarray.Dataset
) -> tuple[list[str], list[list[str]]]:
    """Returns the costs of each model and its errors at the last lead time."""
    lead = errors["time"].values[-1]
    priced = costs.data_vars.values()
    heading = ["model", *(_labelled(c.long_name, c.units) for c in priced)]
    heading += [_labelled(n, a.attrs.get("units", "")) for n, a in errors.items()]
    heading[-len(errors) :] = [
        f"{h} at {_hours(lead)}" for h in heading[-len(errors) :]
    ]
    rows = []
    for source in errors["source"].values.tolist():
        paid = source in costs["source"].values
        row = [_number(float(c.sel(source=source))) if paid else "" for c in priced]
        found = errors.sel(source=source, time=lead)
        rows.append([source, *row, *(_number(float(a)) for a in found.values())])
    return heading, rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _labelled(name: object, units: str) -> str:
    return f"{name} ({units})" if units else str(name)


def _hours(lead: np.timedelta64) -> str:
    return f"{lead / np.timedelta64(1, 'h'):g} h"


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 after an error that a user can put right."""
    given = sys.argv[1:] if words is None else list(words)
    return reporting.run_reported(lambda: compare(given))


if __name__ == "__main__":
    host_memory.keep_freed()
    sys.exit(main())
