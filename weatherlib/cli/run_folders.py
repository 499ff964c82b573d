"""What the folders and settings that commands write hold: runs, statistics, states."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray

    from weatherlib import training
    from weatherlib.cli import console

__all__ = ["CHECKPOINT_SUFFIXES", "checkpoint_of", "describe", "kind_of"]

CHECKPOINT_SUFFIXES = (".npz", ".ckpt")
"""Of the files that hold a model."""

_CONFIG, _CHECKPOINT = "config.yaml", "checkpoint.npz"
# Beside its configuration, a run has one of these.
_OF_RUNS = (_CHECKPOINT, "last", "metrics.jsonl")
# A complete state that training has saved.
_STATE_MARK = "_CHECKPOINT_METADATA"
_STATES = ("last", "best")
_STATISTICS = {
    "mean": "mean_by_level",
    "stddev": "stddev_by_level",
    "change": "diffs_stddev_by_level",
    "min": "min_by_level",
}
# Those that models need; the smallest values are for people.
_NEEDED = ("mean", "stddev", "change")


def kind_of(path: pathlib.Path) -> str | None:
    """Returns what a path is: run, statistics, state, checkpoint or settings.

    A checkpoint here is a folder that holds some. None where it may be weather.
    """
    if path.is_file():
        return "settings" if path.suffix in (".yaml", ".yml") else None
    if not path.is_dir():
        return None
    # A name such as "." does not tell what lies around it.
    path = path if path.name else path.absolute()
    if (path / _CONFIG).is_file() and any((path / n).exists() for n in _OF_RUNS):
        return "run"
    if all(_statistics_file(path, kind) for kind in _NEEDED):
        return "statistics"
    if _state_folder(path) is not None:
        return "state"
    return "checkpoint" if _holds_checkpoints(path) else None


def checkpoint_of(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the weights that a run has written so far, None where there are none."""
    found = path / _CHECKPOINT
    return found if found.is_file() else None


def describe(out: console.Console, path: pathlib.Path, kind: str) -> None:
    """Prints what a path of one of these kinds, but checkpoint, holds.

    Raises:
      OSError: A file is damaged.
      ValueError: These are settings, which another command reads; or the settings of a
        run cannot be understood.
    """
    shown: dict[str, Callable[[console.Console, pathlib.Path], None]] = {
        "run": _describe_run,
        "statistics": _describe_statistics,
        "state": _describe_state,
        "settings": _refuse_settings,
    }
    shown[kind](out, path if path.name else path.absolute())


def _describe_run(out: console.Console, path: pathlib.Path) -> None:
    from weatherlib import training
    from weatherlib.cli import settings

    config = settings.read(training.TrainConfig, path / _CONFIG)
    data = config.data
    periods = {name: data[name] for name in ("train", "validation", "test")}
    facts = [
        ("description", config.description),
        ("data", data.path_text),
        *((name, str(period)) for name, period in periods.items() if period),
        ("model", str(config.model.get("family", ""))),
        ("updates", _updates_of(path, config)),
        ("settings", str(path / _CONFIG)),
    ]
    if checkpoint_of(path) is None:
        facts.append(("checkpoint", "none written yet"))
    out.heading(f"Run: {path}")
    out.facts([(name, value) for name, value in facts if value])


def _updates_of(path: pathlib.Path, config: training.TrainConfig) -> str:
    """Returns how many updates a run has made, and of how many; empty without any."""
    done = max(_saved(path / "last"), default=None)
    if done is None:
        return "none saved yet" if config.stages else ""
    planned = 0
    for stage in config.stages:
        if stage.steps is None:
            return str(done)
        planned += stage.steps * len(stage.rollouts)
    how = f"weatherlib train {path / _CONFIG} --resume"
    more = f"; {how} continues" if done < planned else ""
    return f"{done} of {planned}{more}"


def _saved(folder: pathlib.Path) -> list[int]:
    """Returns the updates after which states lie complete in a folder."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.name.isdigit() and (path / _STATE_MARK).exists()
    )


def _state_folder(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder of states that a path is or lies in; None where there is none.

    It may be the folder of all of them, that of one update, or a part of that.
    """
    if _saved(path):
        return path
    for folder in (path.parent, path.parent.parent):
        if path.relative_to(folder).parts[0] in map(str, _saved(folder)):
            return folder
    return None


def _describe_state(out: console.Console, path: pathlib.Path) -> None:
    folder = _state_folder(path)
    assert folder is not None, "checked by kind_of"
    run = folder.parent if folder.name in _STATES else folder
    facts = [("updates", ", ".join(map(str, _saved(folder)))), ("of the run", str(run))]
    if (run / _CONFIG).is_file():
        how = f"weatherlib train {run / _CONFIG} --resume"
        facts.append(("continued by", how))
    weights = checkpoint_of(run)
    facts.append(("weights", "none exported yet" if weights is None else str(weights)))
    out.heading(f"State of a training run: {path}")
    out.facts(facts)


def _describe_statistics(out: console.Console, path: pathlib.Path) -> None:
    from weatherlib import data
    from weatherlib.cli import describe, files

    found: dict[str, xarray.Dataset] = {}
    for kind in _STATISTICS:
        file = _statistics_file(path, kind)
        if file is not None:
            found[kind] = files.load(data.open_dataset(file), file)
    out.heading(f"Statistics: {path}")
    out.facts(_statistics_facts(path, found["mean"]))
    out.print()
    out.table(*describe.statistics_table(found))


def _statistics_facts(
    path: pathlib.Path, mean: xarray.Dataset
) -> list[tuple[str, str]]:
    """Returns what statistics were made of, as far as it is written down."""
    attrs, source = mean.attrs, path / "source.json"
    facts = [("source", str(attrs.get("source", "not written down")))]
    if source.is_file():
        written = json.loads(source.read_text(encoding="utf8"))
        path_or_paths = written.get("path", facts[0][1])
        if isinstance(path_or_paths, list):
            path_or_paths = ", ".join(path_or_paths)
        facts = [("source", str(path_or_paths))]
        if "grid" in written:
            facts.append(("grid", _grid(written["grid"])))
    if "date_start" in attrs:
        period = f"{attrs['date_start']} to {attrs['date_end']} UTC"
        facts.append(("period", f"{period}, {attrs['frames']} frames"))
    if "timestep_hours" in attrs:
        facts.append(("changes over", f"{attrs['timestep_hours']:g} h"))
    if "climatology_removed" in attrs:
        removed = f"{path / attrs['climatology_removed']}, taken away first"
        facts.append(("climatology", removed))
    return facts


def _grid(axes: dict[str, list[float]]) -> str:
    """Returns a grid in words, of size, first and last value of each axis."""
    sizes = "x".join(str(axis[0]) for axis in axes.values())
    names = {"lat": "latitude", "lon": "longitude"}
    spans = [
        f"{names[n]} {first:g} to {last:g}" for n, (_, first, last) in axes.items()
    ]
    return ", ".join([sizes, *spans])


def _statistics_file(folder: pathlib.Path, kind: str) -> pathlib.Path | None:
    """Returns the file of one statistic, also under its published name."""
    name = f"{_STATISTICS[kind]}.nc"
    candidates = (folder / f"stats_{name}", folder / name)
    return next((path for path in candidates if path.is_file()), None)


def _holds_checkpoints(folder: pathlib.Path) -> bool:
    """Whether checkpoints lie in a folder, and no weather beside them."""
    from weatherlib.data import shards, sniff

    files = [path for path in folder.iterdir() if path.is_file()]
    if not any(path.suffix in CHECKPOINT_SUFFIXES for path in files):
        return False
    if sniff.kind_of(folder) == "zarr" or shards.find_shards(folder):
        return False
    return all(sniff.kind_of(path) == "other" for path in files)


def _refuse_settings(out: console.Console, path: pathlib.Path) -> None:
    from weatherlib.cli import settings

    del out
    model = settings.read_values(path).get("model")
    if isinstance(model, dict) and "family" in model:
        raise ValueError(
            f"{path}: is a configuration; weatherlib train {path} --dry-run says what "
            "it describes"
        )
    raise ValueError(
        f"{path}: is YAML, neither weather nor weights; weatherlib train CONFIG "
        "--dry-run describes the configuration of a model"
    )
