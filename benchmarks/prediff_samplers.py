"""CRPS of PreDiff against the steps of its samplers, beside the ancestral one.

    python benchmarks/prediff_samplers.py --model runs/radar_prediff --data radar.nc \
        --output runs/samplers

Futures of the same contexts are drawn by each sampler with the same first noise, and
compared with what happened. Contexts are spread evenly over those samples of the test
period whose known frames have some rain. Each context of each sampler is a line of
`rows.jsonl`, written when it is done; the same command goes on where it was stopped,
and with `--minutes` it stops by itself, the cheap samplers first. Written are a table
(`curve.csv`, `curve.json`) and a picture (`curve.png`).

The score is the fair CRPS, whose expectation does not depend on the number of members.
A sampler is written KIND[:STEPS][:SETTING]..., such as dpm_solver:20:stochastic, which
draws noise on the way, dpm_solver:20:spacing=log_snr, or ddim:50:eta=1. Differences
from the ancestral sampler are paired, over the contexts that both have, with their
standard error. Random numbers differ from sampler to sampler, so repeat the ancestral
one with other noise (`--seeds 2`) to see how much that alone is.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from weatherlib import diffusion, plotting, prediff
from weatherlib.cli import nowcasting, reporting
from weatherlib.data import radar_sequences
from weatherlib.evaluation import ensemble
from weatherlib.plotting import powers

SAMPLERS = (
    *("dpm_solver:5", "dpm_solver:10", "dpm_solver:20", "dpm_solver:50"),
    *("dpm_solver:20:stochastic", "dpm_solver:50:stochastic"),
    *("dpm_solver:10:spacing=log_snr", "dpm_solver:20:spacing=log_snr"),
    "dpm_solver:10:stochastic:spacing=log_snr",
    "dpm_solver:20:stochastic:spacing=log_snr",
    "dpm_solver:50:stochastic:spacing=log_snr",
    *("ddim:10", "ddim:20", "ddim:50", "ddim:50:eta=1", "ancestral"),
)
REFERENCE = "ancestral"
_COLUMNS = (
    *("sampler", "steps", "contexts", "draws", "crps_fair", "crps", "rmse_mean"),
    *("rmse_member", "spread", "percent", "percent_error", "seconds", "cost"),
)
_LOOKS = {
    "dpm_solver": ("#1f5fa8", "o", "DPM-Solver++"),
    "dpm_solver, log_snr": ("#1f5fa8", "s", "DPM-Solver++, log_snr"),
    "dpm_solver, stochastic": ("#4f9fd8", "^", "DPM-Solver++, with noise"),
    "dpm_solver, stochastic, log_snr": ("#1e8c4e", "P", "with noise, log_snr"),
    "ddim": ("#c0392b", "s", "DDIM"),
    "ddim, changed": ("#e08070", "v", "DDIM, with noise"),
    "ancestral": ("#333333", "D", "ancestral"),
    "ancestral, changed": ("#888888", "d", "ancestral, respaced"),
}


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    found = reporting.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--model", required=True, metavar="RUN", help="trained PreDiff")
    add("--data", metavar="PATH", help="default: that of the run's configuration")
    add("--start", metavar="TIME", help="first time to judge on; default: the test's")
    add("--samplers", nargs="+", default=list(SAMPLERS), metavar="KIND[:STEPS]")
    add("--contexts", type=int, default=12, metavar="N")
    add("--members", type=int, default=8, metavar="N")
    add("--members-at-once", type=int, default=8, metavar="N")
    add("--seeds", type=int, default=1, metavar="N", help="repeats with other noise")
    add(
        "--wet",
        type=float,
        default=8.0,
        metavar="PIXEL",
        help="least mean of a context",
    )
    add("--minutes", type=float, metavar="N", help="begin nothing after so long")
    add("--output", default="runs/samplers", metavar="FOLDER")
    add("--set", action="append", default=[], metavar="KEY=VALUE")
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 after an error that a user can put right."""
    return reporting.run_reported(lambda: run(parser().parse_args(words)))


def run(options: argparse.Namespace) -> None:
    """Draws what is not there yet, and writes the table and the picture.

    Raises:
      ValueError: Model, data and options do not go together.
      OSError: Something cannot be read or written.
    """
    for name in ("contexts", "members", "members_at_once", "seeds"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    chosen = {text: diffusion.SamplerConfig.parse(text) for text in options.samplers}
    checkpoint = pathlib.Path(options.model)
    if checkpoint.is_dir():
        checkpoint = checkpoint / "checkpoint.npz"
    samples = _samples(checkpoint, options)
    numbers = wet_contexts(samples, options.contexts, options.wet)
    folder = pathlib.Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    rows = Rows(folder / "rows.jsonl", _asked(checkpoint, numbers, options))
    ends = None
    if options.minutes is not None:
        ends = time.perf_counter() + 60 * options.minutes
    for seed in range(options.seeds):
        for text, sampler in chosen.items():
            todo = [n for n in numbers if not rows.has(text, seed, n)]
            if not todo:
                continue
            nowcast = prediff.open_nowcaster(
                checkpoint,
                members=options.members,
                members_at_once=options.members_at_once,
                sampler=sampler,
                seed=seed,
            )
            for place, number in enumerate(todo):
                if ends is not None and time.perf_counter() > ends:
                    print("time is up; the same command goes on")
                    break
                found = judge(nowcast, samples, number)
                head = {"sampler": text, "seed": seed, "context": number}
                rows.add({**head, "first": place == 0, **found})
                print(json.dumps(rows.held[-1]), flush=True)
    table = curve(rows.held, options.samplers, _steps_of(checkpoint))
    write(table, folder)
    for line in table:
        print(line)
    print(f"{folder}: rows.jsonl, curve.csv, curve.json, curve.png")


class Rows:
    """Lines of a file, each a result; the first says what was asked for."""

    def __init__(self, path: pathlib.Path, asked: dict[str, Any]) -> None:
        """Reads what is there.

        Raises:
          ValueError: The file was made for something else.
        """
        self._path, self.held = path, []
        held = path.read_text("utf8") if path.exists() else ""
        # A last line without its end was being written when the run was stopped.
        whole = held[: held.rfind("\n") + 1]
        if whole != held:
            path.write_text(whole, encoding="utf8")
        lines = whole.splitlines()
        if not lines:
            self._write(asked)
            return
        there = json.loads(lines[0])
        if there != asked:
            what = ", ".join(k for k in asked if there.get(k) != asked[k])
            raise ValueError(
                f"{path}: was made with other {what}; choose another --output"
            )
        self.held.extend(json.loads(line) for line in lines[1:])

    def has(self, sampler: str, seed: int, context: int) -> bool:
        """Returns whether a result is there."""
        wanted = (sampler, seed, context)
        return any(
            (row["sampler"], row["seed"], row["context"]) == wanted for row in self.held
        )

    def add(self, row: dict[str, Any]) -> None:
        """Keeps a result."""
        self._write(row)
        self.held.append(row)

    def _write(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf8") as file:
            file.write(json.dumps(line) + "\n")


def wet_contexts(
    samples: radar_sequences.Sequences, count: int, least: float
) -> list[int]:
    """Returns so many samples whose known frames have rain, spread evenly.

    Raises:
      ValueError: There is none.
    """
    inputs = samples.config.inputs
    means = [float(np.nanmean(samples.pixels(n)[:inputs])) for n in range(len(samples))]
    wet = np.flatnonzero(np.asarray(means) >= least)
    if not wet.size:
        raise ValueError(
            f"--wet {least:g}: none of {len(samples)} samples has so much rain; the "
            f"wettest has a mean of {max(means):.3g} pixels"
        )
    places = np.unique(np.linspace(0, len(wet) - 1, min(count, len(wet))).round())
    return [int(wet[int(place)]) for place in places]


def judge(
    nowcast: prediff.Nowcast, samples: radar_sequences.Sequences, number: int
) -> dict[str, float]:
    """Returns scores of the futures of one context, and the seconds they took."""
    frames = samples.pixels(number)
    context, truth = np.split(frames, [samples.config.inputs])
    began = time.perf_counter()
    members = nowcast(context[np.newaxis], len(truth))[:, 0].astype(np.float64)
    seconds = time.perf_counter() - began
    fair = members.shape[0] > 1
    scores = {
        "crps_fair": ensemble.crps(members, truth, fair=fair),
        "crps": ensemble.crps(members, truth),
        "mse_mean": (members.mean(0) - truth) ** 2,
        "mse_member": (members - truth) ** 2,
        "variance": ensemble.variance(members),
    }
    found = {name: float(np.nanmean(values)) for name, values in scores.items()}
    return {**found, "seconds": seconds}


def curve(
    rows: Iterable[dict[str, Any]], order: Sequence[str], all_steps: int
) -> list[dict[str, Any]]:
    """Returns a line for each sampler: means over contexts and draws, and differences.

    Args:
      rows: Results.
      order: Of the samplers.
      all_steps: Those of the ancestral sampler.
    """
    held: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for row in rows:
        held.setdefault(row["sampler"], {})[row["context"], row["seed"]] = row
    found = []
    reference = held.get(REFERENCE)
    slow = None if reference is None else _seconds(reference.values())
    for text in sorted(held, key=lambda text: _place(order, text)):
        each = held[text]
        mean = {
            name: float(np.mean([row[name] for row in each.values()]))
            for name in ("crps_fair", "crps", "mse_mean", "mse_member", "variance")
        }
        line: dict[str, Any] = {
            "sampler": text,
            "steps": diffusion.SamplerConfig.parse(text).steps or all_steps,
            "contexts": len({context for context, _ in each}),
            "draws": len(each),
            "crps_fair": mean["crps_fair"],
            "crps": mean["crps"],
            "rmse_mean": mean["mse_mean"] ** 0.5,
            "rmse_member": mean["mse_member"] ** 0.5,
            "spread": mean["variance"] ** 0.5,
            "seconds": _seconds(each.values()),
        }
        if reference is not None and slow is not None:
            line |= _difference(each, reference)
            line["cost"] = line["seconds"] / slow
        found.append(
            {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in line.items()
            }
        )
    return found


def _difference(each: Any, reference: Any) -> dict[str, float]:
    """Returns how much larger the score is than another, per cent, and its error.

    Pairs are of one context and one seed; the error is that of a mean over contexts.
    """
    both = sorted(set(each) & set(reference))
    if not both:
        return {}
    here, there = (
        np.array([rows[pair]["crps_fair"] for pair in both])
        for rows in (each, reference)
    )
    apart = 100 * (here - there) / there.mean()
    contexts = np.array([context for context, _ in both])
    means = np.array([apart[contexts == n].mean() for n in np.unique(contexts)])
    error = means.std(ddof=1) / len(means) ** 0.5 if len(means) > 1 else np.nan
    return {"percent": float(apart.mean()), "percent_error": float(error)}


def _seconds(rows: Iterable[dict[str, Any]]) -> float:
    """Returns the seconds of a context at the first seed, without compilation."""
    every = list(rows)
    first = min(row["seed"] for row in every)
    every = [row for row in every if row["seed"] == first]
    warm = [row["seconds"] for row in every if not row["first"]]
    return float(np.median(warm or [row["seconds"] for row in every]))


def _place(order: Sequence[str], text: str) -> int:
    return list(order).index(text) if text in order else len(order)


def write(table: Sequence[dict[str, Any]], folder: pathlib.Path) -> None:
    """Writes the table and the picture.

    Raises:
      OSError: They cannot be written.
    """
    text = json.dumps(list(table), indent=1)
    (folder / "curve.json").write_text(text + "\n", encoding="utf8")
    with (folder / "curve.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    if table:
        plotting.save_figure(draw(table), folder / "curve.png")


def draw(table: Sequence[dict[str, Any]]) -> matplotlib.figure.Figure:
    """Returns a picture of the score against the steps of each sampler."""
    figure = matplotlib.figure.Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    for kind, (colour, marker, label) in _LOOKS.items():
        lines = sorted(
            (line for line in table if _drawn_as(line["sampler"]) == kind),
            key=lambda line: line["steps"],
        )
        if not lines:
            continue
        errors = [_error_pixels(line, table) for line in lines]
        axes.errorbar(
            [line["steps"] for line in lines],
            [line["crps_fair"] for line in lines],
            errors,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.6,
            label=label,
        )
    slow = [line for line in table if line["sampler"] == REFERENCE]
    if slow:
        level = slow[0]["crps_fair"]
        axes.axhspan(0.98 * level, 1.02 * level, color="#333333", alpha=0.12, lw=0)
        axes.text(
            0.01, 0.98 * level, "ancestral ± 2 %", fontsize=7, ha="left", va="bottom",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    powers.label_powers(axes.xaxis, np.array([line["steps"] for line in table]))
    axes.set_xlabel("steps of the sampler", fontsize=8)
    axes.set_ylabel("fair CRPS (pixels)", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _error_pixels(line: dict[str, Any], table: Sequence[dict[str, Any]]) -> float:
    """Returns the error of the difference to the ancestral sampler, in pixels."""
    level = [each["crps_fair"] for each in table if each["sampler"] == REFERENCE]
    error = line.get("percent_error", 0.0)
    return error / 100 * level[0] if level and np.isfinite(error) else 0.0


def _drawn_as(text: str) -> str:
    """Returns which line of the picture a sampler belongs to."""
    kind, *rest = text.split(":")
    if kind == "dpm_solver":
        named = [word for word in ("stochastic", "log_snr") if word in text]
        return ", ".join([kind, *named])
    changed = len(rest) > 1 or (kind == REFERENCE and bool(rest))
    return f"{kind}, changed" if changed else kind


def _samples(
    checkpoint: pathlib.Path, options: argparse.Namespace
) -> radar_sequences.Sequences:
    """Returns the samples of the test period, as the run's configuration cuts them."""
    own = checkpoint.parent / "config.yaml"
    data = nowcasting.read_data(
        own if own.is_file() else None, options.data, options.set
    )
    period = nowcasting.find_period(data, start=options.start)
    return nowcasting.find_samples(data, period, _model(checkpoint).output_length)


def _model(checkpoint: pathlib.Path) -> Any:
    from weatherlib.prediff import stages

    return stages.open_denoiser(checkpoint).model_config


def _steps_of(checkpoint: pathlib.Path) -> int:
    return _model(checkpoint).diffusion.schedule.steps


def _asked(
    checkpoint: pathlib.Path, numbers: list[int], options: argparse.Namespace
) -> dict[str, Any]:
    """Returns what results depend on, beside their sampler."""
    return {
        "model": str(checkpoint),
        "data": options.data,
        "start": options.start,
        "set": options.set,
        "contexts": numbers,
        "members": options.members,
    }


if __name__ == "__main__":
    sys.exit(main())
