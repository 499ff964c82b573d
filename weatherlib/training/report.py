"""The report of a run: curves as a picture, and one page that holds everything."""

from __future__ import annotations

import base64
import html
import io
import itertools
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from matplotlib import figure

import weatherlib
from weatherlib import writing

__all__ = ["curves", "hardware", "write"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0;
       text-align: left; vertical-align: top; border-bottom: 1px solid #eee; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } pre { background: #f6f6f6; padding: 1rem; overflow: auto; }
"""


def write(
    folder: pathlib.Path,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    settings: str,
    records: Sequence[Mapping[str, Any]],
) -> pathlib.Path:
    """Writes `curves.png` and `report.html`, and returns the page's path.

    Args:
      folder: Of the run.
      title: Heading.
      facts: Names and values for the first table.
      settings: The configuration as text.
      records: All records of the run in order.
    """
    picture = io.BytesIO()
    curves(records).savefig(picture, format="png", dpi=110)
    _replace(folder / "curves.png", picture.getvalue())
    image = base64.b64encode(picture.getvalue()).decode()
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        _facts([*facts, *hardware()]),
        f'<h2>Curves</h2><img alt="Loss, errors and rates by update" '
        f'src="data:image/png;base64,{image}">',
        _scores(records),
        f"<h2>Configuration</h2><pre>{html.escape(settings)}</pre></html>",
    ]
    path = folder / "report.html"
    _replace(path, "\n".join(parts).encode())
    return path


def hardware() -> list[tuple[str, str]]:
    """Returns devices, processor and versions, as names and values."""
    devices = jax.devices()
    kind = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    return [
        ("devices", kind),
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        (
            "software",
            f"weatherlib {weatherlib.__version__}, jax {jax.__version__}, Python "
            f"{platform.python_version()}",
        ),
    ]


def curves(records: Sequence[Mapping[str, Any]]) -> figure.Figure:
    """Returns the curves of loss, errors, learning rate and speed by update.

    Args:
      records: All records of the run in order.
    """
    train = [r for r in records if r.get("kind") == "train"]
    judged = [r for r in records if r.get("kind") == "validation"]
    drawing = figure.Figure(figsize=(11, 6.6), layout="constrained")
    axes = drawing.subplots(2, 2, sharex=True)
    steps = [r["step"] for r in train]
    _line(axes[0, 0], steps, [r["loss"] for r in train], "training")
    for before, after in itertools.pairwise(train):
        if before["stage"] != after["stage"]:
            axes[0, 0].axvline(before["step"], color="0.8", linewidth=0.8)
    if judged:
        _line(
            axes[0, 0],
            [r["step"] for r in judged],
            [r["loss"] for r in judged],
            "validation",
            marker="o",
        )
    axes[0, 0].set(title="Loss (normalised)", yscale=_scale(axes[0, 0]))
    if axes[0, 0].lines:
        axes[0, 0].legend(frameon=False)
    _errors(axes[0, 1], judged)
    rated = [r for r in train if r.get("learning_rate") is not None]
    _line(
        axes[1, 0], [r["step"] for r in rated], [r["learning_rate"] for r in rated], ""
    )
    axes[1, 0].set(title="Learning rate", xlabel="update")
    timed = [r for r in train if r["steps_per_second"]]
    for name, label in (
        ("steps_per_second", "updates a second"),
        ("data_wait", "share of time waiting for data"),
    ):
        _line(axes[1, 1], [r["step"] for r in timed], [r[name] for r in timed], label)
    axes[1, 1].set(title="Speed", xlabel="update")
    axes[1, 1].set_ylim(bottom=0)
    if timed:
        axes[1, 1].legend(frameon=False)
    for panel in axes.flat:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return drawing


def _errors(panel: Any, judged: Sequence[Mapping[str, Any]]) -> None:
    """Draws errors as a share of those of persistence, at the first lead."""
    panel.set(title="RMSE / persistence")
    judged = [r for r in judged if r.get("rmse")]
    if not judged:
        panel.text(0.5, 0.5, "not measured", ha="center", transform=panel.transAxes)
        return
    names = list(judged[-1]["rmse"])
    for name in names:
        lead = next(iter(judged[-1]["rmse"][name]))
        ratios = [
            r["rmse"][name][lead] / max(r["persistence"][name][lead], 1e-30)
            for r in judged
        ]
        _line(panel, [r["step"] for r in judged], ratios, f"{name}, lead {lead}")
    panel.axhline(1, color="0.5", linewidth=0.8, linestyle="--")
    if len(names) <= 8:
        panel.legend(frameon=False, fontsize="small")


def _line(
    panel: Any, x: Sequence[Any], y: Sequence[Any], label: str, **how: Any
) -> None:
    if len(x):
        how = {"markersize": 3, "marker": "o" if len(x) < 10 else None, **how}
        panel.plot(x, y, label=label, linewidth=1.4, **how)


def _scale(panel: Any) -> str:
    values = [value for line in panel.lines for value in line.get_ydata()]
    return "log" if values and min(values) > 0 else "linear"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in facts
    )
    return f"<table>{rows}</table>"


def _scores(records: Sequence[Mapping[str, Any]]) -> str:
    judged = [r for r in records if r.get("kind") == "validation" and r.get("rmse")]
    if not judged:
        return ""
    best = min(judged, key=lambda record: record["metric"])
    rows = []
    for name, errors in best["rmse"].items():
        for lead, error in errors.items():
            other = best["persistence"][name][lead]
            rows.append(
                f"<tr><td>{html.escape(name)}</td><td class=n>{_lead(lead)}</td>"
                f"<td class=n>{error:.5g}</td><td class=n>{other:.5g}</td>"
                f"<td class=n>{error / max(other, 1e-30):.3f}</td></tr>"
            )
    return (
        f"<h2>Errors at the best validation (update {best['step']})</h2><table><tr>"
        "<th>variable</th><th>lead</th><th>RMSE</th><th>persistence</th>"
        f"<th>ratio</th></tr>{''.join(rows)}</table>"
    )


def _lead(label: str) -> str:
    """Returns a lead time in words: hours are labelled so, all else counts steps."""
    if label.endswith("h"):
        return html.escape(label)
    return f"{html.escape(label)} step{'' if label == '1' else 's'}"


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _replace(path: pathlib.Path, content: bytes) -> None:
    with writing.replacing(path) as partial:
        partial.write_bytes(content)
