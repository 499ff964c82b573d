"""Scores that `weatherlib plot` draws: curves by lead time, and scorecards."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.figure
import numpy as np
import xarray

from weatherlib import evaluation, plotting
from weatherlib.cli import files, score_pictures
from weatherlib.evaluation import references

if TYPE_CHECKING:
    from weatherlib.cli import plot

__all__ = ["draw"]

_LONG = 60  # Letters of a heading that fit into one line.


def draw(options: plot.Options, out_dir: pathlib.Path) -> list[pathlib.Path]:
    """Returns the picture of one or two score files, or several sheets of curves.

    Its name tells kind, metric and region, so that it takes the place of none that
    `weatherlib evaluate` has drawn.

    Raises:
      FileNotFoundError: A file is missing.
      OSError: A file is damaged, or the picture cannot be written.
      ValueError: A file holds no scores of the metric, variable, region or level, or
        there is nothing to compare.
    """
    paths = [options.path, *([options.reference] if options.reference else [])]
    found = {
        label: _scores(path, options) for label, path in zip(_labels(paths), paths)
    }
    figures = (
        [_scorecard(found, options)]
        if options.kind == "scorecard"
        else _curves(found, options)
    )
    parts = [pathlib.Path(options.path).stem, options.kind, options.metric]
    parts += [options.region] if options.region else []
    parts += [f"against_{label.replace('/', '_')}" for label in list(found)[1:]]
    sheets = ["", *(f"_{number}" for number in range(2, len(figures) + 1))]
    return [
        plotting.save_figure(figure, out_dir / f"{'_'.join(parts)}{sheet}.png")
        for figure, sheet in zip(figures, sheets)
    ]


def _labels(paths: list[str]) -> list[str]:
    """Returns a short name of each file, no two alike."""
    for count in (1, 2):
        names = ["/".join(pathlib.Path(path).with_suffix("").parts[-count:])
                 for path in paths]  # fmt: skip
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _scores(path: str, options: plot.Options) -> xarray.Dataset:
    """Returns the scores of a file in our form, those of what is wanted.

    Raises:
      ValueError: There is no score by lead time, or not of what is wanted.
    """
    opened = files.open_weather(path)
    if {"lat", "lon", "latitude", "longitude"} & set(opened.dims):
        raise ValueError(
            f"{path}: holds fields, not scores by lead time; make those with "
            "`weatherlib evaluate`"
        )
    found = evaluation.canonical_results(opened, pathlib.Path(path).stem)
    held = score_pictures.metric_names(found)
    if options.metric not in held:
        raise ValueError(
            f"--metric: {path} has no {options.metric!r} by lead time; it has "
            f"{', '.join(held) or 'none'}"
        )
    return _of_region(_of_variable(found, path, options), path, options)


def _of_variable(
    found: xarray.Dataset, path: str, options: plot.Options
) -> xarray.Dataset:
    """Returns the scores of the variable that is asked for, else of all."""
    if options.var is None:
        return found
    names = [
        str(name)
        for name in found.data_vars
        if str(name).rpartition(".")[2] == options.var
    ]
    if not names:
        known = {str(name).rpartition(".")[2]: None for name in found.data_vars}
        raise ValueError(f"{path}: no {options.var!r}; it has {', '.join(known)}")
    return found[names]


def _of_region(
    found: xarray.Dataset, path: str, options: plot.Options
) -> xarray.Dataset:
    """Returns the scores with the region that is asked for, or else the globe, first.

    Raises:
      ValueError: There is no such region.
    """
    held = [str(r) for r in found["region"].values] if "region" in found.dims else []
    if options.region is not None:
        if options.region not in held:
            raise ValueError(
                f"--region: {path} has no {options.region!r}; it has "
                f"{', '.join(held) or 'one region without a name'}"
            )
        return found.sel(region=[options.region])
    if "global" in held:
        return found.sel(region=sorted(held, key=lambda name: name != "global"))
    return found


def _curves(
    found: Mapping[str, xarray.Dataset], options: plot.Options
) -> list[matplotlib.figure.Figure]:
    """Returns the curves of all models of all files, in one region and at one level."""
    found = {
        label: _at_level(scores.isel(region=slice(1), missing_dims="ignore"), options)
        for label, scores in found.items()
    }
    return score_pictures.curve_figures(_joined(_renamed(found)), options.metric)


def _at_level(scores: xarray.Dataset, options: plot.Options) -> xarray.Dataset:
    """Returns the scores at one level.

    Raises:
      ValueError: There is no such level.
    """
    if "level" not in scores.dims:
        return scores
    held = scores["level"].values.tolist()
    if options.level not in held:
        known = ", ".join(f"{value:g}" for value in held)
        raise ValueError(f"--level: no {options.level} hPa; there are {known}")
    return scores.sel(level=[options.level])


def _renamed(found: Mapping[str, xarray.Dataset]) -> list[xarray.Dataset]:
    """Returns the scores with names of models that occur once over all files.

    What two files hold alike, such as persistence, stays once.
    """
    parts: list[xarray.Dataset] = []
    for label, scores in found.items():
        for model in scores["model"].values.tolist():
            single = scores.sel(model=[model])
            others = [part for part in parts if part["was"].item() == model]
            if any(_alike(single, other) for other in others):
                continue
            name = f"{model} ({label})" if others else model
            parts.append(single.assign_coords(model=[name], was=model, file=label))
    names = [part["was"].item() for part in parts]
    parts = [
        part.assign_coords(model=[f"{part['was'].item()} ({part['file'].item()})"])
        if names.count(part["was"].item()) > 1
        else part
        for part in parts
    ]
    # Models first, what they have to beat last.
    parts.sort(key=lambda part: part["was"].item() in references.REFERENCES)
    return [part.drop_vars(["was", "file"]) for part in parts]


def _alike(one: xarray.Dataset, other: xarray.Dataset) -> bool:
    """Whether two models have the same scores."""
    names = [name for name in one.data_vars if "." not in str(name)]
    if [n for n in other.data_vars if "." not in str(n)] != names:
        return False
    return all(
        one[name].shape == other[name].shape
        and np.allclose(one[name], other[name], rtol=1e-6, atol=0, equal_nan=True)
        for name in names
    )


def _joined(parts: list[xarray.Dataset], join: str = "outer") -> xarray.Dataset:
    """Returns scores of several models as one dataset, of the variables all have."""
    if len(parts) == 1:
        return parts[0]
    names = [n for n in parts[0].data_vars if all(n in part for part in parts)]
    if not any("." not in str(n) for n in names):
        sets = (", ".join(map(str, part.data_vars)) for part in parts)
        raise ValueError(f"no variable in common: {' and '.join(sets)}")
    if not all("region" in part.dims for part in parts):
        parts = [part.isel(region=0, drop=True, missing_dims="ignore")
                 for part in parts]  # fmt: skip
    joined = xarray.concat(
        [part[names].drop_vars("starts", errors="ignore") for part in parts],
        "model",
        join=join,  # type: ignore[arg-type]
        combine_attrs="override",
    )
    for dim, what in (("lead_time", "lead time"), ("region", "region"),
                      ("level", "level"), ("metric", "metric")):  # fmt: skip
        if dim in joined.sizes and not joined.sizes[dim]:
            raise ValueError(f"the two score files have no {what} in common")
    return joined


def _scorecard(
    found: Mapping[str, xarray.Dataset], options: plot.Options
) -> matplotlib.figure.Figure:
    """Returns the models of one file against one of them, or of two files compared.

    Raises:
      ValueError: There is nothing to compare.
    """
    if len(found) == 1:
        ((_, scores),) = found.items()
        models = [str(name) for name in scores["model"].values]
        if len(models) == 1:
            raise ValueError(
                f"{options.path}: holds scores of {models[0]} alone; a scorecard "
                "compares with --reference FILE"
            )
        baseline = _model(scores, options.path, options.baseline)
        return score_pictures.scorecard(scores, options.metric, baseline)
    (new, scores), (old, reference) = found.items()
    pair = [
        scores.sel(model=[_model(scores, options.path, None)]),
        reference.sel(
            model=[_model(reference, str(options.reference), options.baseline)]
        ),
    ]
    names = [
        _file_and_model(label, part["model"].item())
        for label, part in zip((new, old), pair)
    ]
    joined = _joined(
        [p.assign_coords(model=[name]) for p, name in zip(pair, names)], "inner"
    )
    # What chance explains was worked out against another model.
    joined.attrs.pop("baseline", None)
    heading = f"{score_pictures.title(options.metric)}: {names[0]} against {names[1]}"
    if len(heading) > _LONG:
        heading = heading.replace(" against ", "\nagainst ", 1)
    return score_pictures.scorecard(joined, options.metric, names[1], heading)


def _file_and_model(label: str, model: str) -> str:
    return label if label == model else f"{model} ({label})"


def _model(scores: xarray.Dataset, path: str, wanted: str | None) -> str:
    """Returns the model that is asked for, or that the scores were made for.

    Raises:
      ValueError: There is no such model.
    """
    models = [str(name) for name in scores["model"].values]
    if wanted is not None:
        if wanted not in models:
            raise ValueError(
                f"--baseline: {path} has no {wanted!r}; it has {', '.join(models)}"
            )
        return wanted
    if scores.attrs.get("baseline") in models:
        return str(scores.attrs["baseline"])
    own = [name for name in models if name not in references.REFERENCES]
    return (own or models)[0]
