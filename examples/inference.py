r"""A weather forecast with GraphCast: from a file to maps, scores and a forecast file.

    python examples/inference.py

makes a ten-day forecast with the bundled model from the bundled weather. With a
checkpoint, its statistics and a file of your own:

    python examples/inference.py --mode Checkpoint --pretrained ./graphcast.npz \
        --stats ./stats --dataset ./source-era5_date-2022-01-01_res-1.0_levels-13.nc \
        --var geopotential --level 500 --steps 4 --output forecast.nc

The last frames of the file serve as truth, as many as there are steps; with more steps
than that the forecast goes on beyond the file. Pictures are written to the working
directory unless --out-dir says otherwise. The engine is `weatherlib.cli.predict`, the
same as that of the command `weatherlib predict`; the functions below are the steps of
the published walk-through, for notebooks and for training.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import matplotlib.colors
import numpy as np
import xarray

from weatherlib import (
    graphcast,
    host_memory,
    predictor_base,
    xarray_jax,
    xarray_tree,
)
from weatherlib.cli import file_names, info, models, pictures, predict, reporting
from weatherlib.plotting import maps, sheets, styles

parse_file_parts = file_names.parse_file_parts

PRECIPITATION = "total_precipitation_6hr"


def argsparser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--pretrained",
        default="./",
        metavar="FILE",
        help="checkpoint, or a folder "
        "that holds exactly one; default: the bundled checkpoint",
    )
    add(
        "--dataset",
        metavar="FILE",
        help="weather to start from, NetCDF or Zarr, at "
        "least 3 frames; default: the bundled sample",
    )
    add(
        "--mode",
        choices=["Random", "Checkpoint"],
        default="Checkpoint",
        help="where parameters come from; Random draws those of a small model, to try "
        "the path (default: Checkpoint)",
    )
    add(
        "--var",
        default="2m_temperature",
        metavar="NAME",
        help="variable to draw (default: %(default)s)",
    )
    add(
        "--level",
        type=int,
        default=500,
        metavar="HPA",
        help="pressure level to draw, hPa (default: %(default)s)",
    )
    add(
        "--steps",
        type=int,
        metavar="N",
        help="steps to forecast; default: 1, or 40 "
        "(ten days) with neither --dataset nor --pretrained",
    )
    add(
        "--stats",
        metavar="DIR",
        help="folder of the model's statistics; default: stats/ beside the checkpoint",
    )
    add("--output", metavar="FILE", help="write the forecast here, .nc or .zarr")
    add(
        "--out-dir",
        default=".",
        metavar="DIR",
        help="folder for pictures and scores (default: the working directory)",
    )
    add("--animate", action="store_true", help="also draw a GIF of all steps")
    add(
        "--precision",
        choices=models.PRECISIONS,
        default="auto",
        help="auto is bfloat16 on an accelerator and float32 on a CPU",
    )
    add(
        "--list",
        action="store_true",
        help="only say what dataset and checkpoint contain",
    )
    return parser


def print_arguments(args: argparse.Namespace) -> None:
    """Prints every argument, to confirm the configuration."""
    print("Arguments:")
    for name, value in vars(args).items():
        print(f"  {name}: {value}")


def select(
    data: xarray.Dataset,
    variable: str,
    level: int | None = None,
    max_steps: int | None = None,
) -> xarray.DataArray:
    """Returns one variable of the first sample, at one level where it has levels.

    Args:
      data: Any of the dimensions (batch, time, level, lat, lon).
      variable: Its name.
      level: Pressure level, hPa. Ignored for a variable without levels.
      max_steps: Keeps at most so many first times.

    Raises:
      ValueError: The data lack the variable or the level.
    """
    field = pictures.select(data, variable, level)
    if max_steps is not None and field.sizes.get("time", 0) > max_steps:
        field = field.isel(time=slice(max_steps))
    return field


def scale(
    data: xarray.DataArray, center: float | None = None, robust: bool = False
) -> tuple[xarray.DataArray, matplotlib.colors.Normalize, str]:
    """Returns the data, a colour scale for them and the name of a colour map.

    Args:
      data: May hold NaN, which is ignored.
      center: Makes the scale symmetric about this value, in red and blue.
      robust: Leaves out the outer two percent on each side.
    """
    low, high = np.nanpercentile(data, (2, 98) if robust else (0, 100))
    if center is not None:
        distance = max(high - center, center - low)
        low, high = center - distance, center + distance
    norm = matplotlib.colors.Normalize(low, high)
    return data, norm, "viridis" if center is None else "RdBu_r"


def plot_data(
    data: Mapping[str, tuple[xarray.DataArray, matplotlib.colors.Normalize, Any]],
    fig_title: str,
    plot_size: float = 5,
    robust: bool = False,
    cols: int = 4,
) -> None:
    """Writes `<fig_title>.png`, one map per entry, each with its colour bar.

    Args:
      data: Title of each map, and its field, colour scale and colour map. The first
        time is drawn. An entry called "Diff" holds differences.
      fig_title: Name of the picture without `.png`; may begin with a folder.
      plot_size: Width of a map, inches.
      robust: Marks the ends of the colour bars as open.
      cols: Most maps side by side.

    Raises:
      ValueError: The entries have different numbers of times, or are no maps.
      OSError: The picture cannot be written.
    """
    times = {name: entry[0].sizes.get("time") for name, entry in data.items()}
    if len(set(times.values())) != 1:
        raise ValueError(f"all maps of a picture need the same times, found {times}")
    first = next(iter(data.values()))[0]
    columns = min(cols, len(data))
    rows = -(-len(data) // columns)
    figure, panels = sheets.panel_figure(rows, columns, first, width=plot_size)
    for axes, (name, (field, norm, colormap)) in zip(panels, data.items()):
        field = field.isel(time=0, missing_dims="ignore")
        style = styles.find(field)
        shown = style.show(field, difference=name == "Diff")
        norm = style.show_norm(norm, difference=name == "Diff")
        if {"lat", "lon"} <= set(field.coords):
            drawn = maps.draw_field(axes, shown, norm=norm, colormap=colormap)
        else:
            drawn = axes.imshow(shown, origin="lower", norm=norm, cmap=colormap)
            axes.set_axis_off()
        title = "Diff: targets minus predictions" if name == "Diff" else name
        axes.set_title(title, fontsize=10)
        sheets.add_colorbar(figure, drawn, [axes], shown, open_ends=robust)
    for axes in panels[len(data) :]:
        axes.remove()
    one = first.isel(time=0, missing_dims="ignore")
    heading = filter(None, [styles.label(one), styles.valid_label(one)])
    figure.suptitle(", ".join(heading), fontsize=12)
    maps.save_figure(figure, f"{fig_title}.png")


def save_var_diff(
    eval_targets: xarray.Dataset,
    predictions: xarray.Dataset,
    plot_pred_variable: str,
    plot_pred_level: int | None,
    plot_max_steps: int = 1,
    *,
    suffix: str = "",
    out_dir: str | os.PathLike[str] = ".",
) -> pathlib.Path:
    """Draws truth, forecast and their difference to `<title>.png`.

    The title is the variable's name, and `_at_<level>_hPa` where it has levels. Truth
    and forecast share one colour scale; the difference, truth minus forecast, has one
    centred on zero.

    Args:
      eval_targets: The truth.
      predictions: The forecast, beginning at the same time.
      plot_pred_variable: Variable to draw.
      plot_pred_level: Pressure level, hPa.
      plot_max_steps: Most times to select; the first is drawn.
      suffix: Is put behind the title.
      out_dir: Folder of the picture.

    Returns:
      The picture's path.

    Raises:
      ValueError: The variable or level is not there.
      OSError: The picture cannot be written.
    """
    steps = min(predictions.sizes["time"], plot_max_steps)
    targets, predicted = (
        select(part, plot_pred_variable, plot_pred_level, steps)
        for part in (eval_targets, predictions)
    )
    both = np.concatenate([np.ravel(targets), np.ravel(predicted)])
    norm = scale(xarray.DataArray(both), robust=True)[1]
    colormap = styles.find(predicted).colormap
    difference = (targets - predicted).rename(plot_pred_variable)
    title = pictures.file_title(predicted) + suffix
    path = pathlib.Path(out_dir) / f"{title}.png"
    panels = {
        "Targets": (targets, norm, colormap),
        "Predictions": (predicted, norm, colormap),
        "Diff": scale(difference, center=0, robust=True),
    }
    plot_data(panels, str(path.with_suffix("")), robust=True)
    return path


def data_valid_for_model(
    file_name: str,
    model_config: graphcast.ModelConfig,
    task_config: graphcast.TaskConfig,
) -> bool:
    """Returns whether the name of a file says that its data fit a model.

    A sanity check before anything is read: resolution, number of levels, and a source
    that goes with the model's use of precipitation. A name without these parts says
    nothing, so the answer is no.
    """
    parts = parse_file_parts(pathlib.Path(file_name).name)
    try:
        resolution, levels = float(parts["res"]), int(parts["levels"])
        source = parts["source"]
    except (KeyError, ValueError):
        return False
    reads_precipitation = PRECIPITATION in task_config.input_variables
    sources = ("era5", "fake") if reads_precipitation else ("hres", "fake")
    return (
        model_config.resolution in (0, resolution)
        and len(task_config.pressure_levels) == levels
        and source in sources
    )


def load_data(
    folder: str | os.PathLike[str] = "./stats",
) -> tuple[xarray.Dataset, xarray.Dataset, xarray.Dataset]:
    """Returns standard deviations of differences, means and standard deviations.

    Args:
      folder: Holds the three files `stats_<name>.nc`, or `<name>.nc` as published.

    Raises:
      FileNotFoundError: One of the three is missing.
      OSError: One of them is damaged or no NetCDF.
    """
    found = models.load_statistics(folder)
    return found.diffs_stddev_by_level, found.mean_by_level, found.stddev_by_level


def construct_wrapped_graphcast(
    model_config: graphcast.ModelConfig,
    task_config: graphcast.TaskConfig,
    statistics: models.Statistics | None = None,
    precision: str = "auto",
) -> predictor_base.Predictor:
    """Returns GraphCast with cast, normalisation and repetition around it.

    Args:
      model_config: The architecture.
      task_config: What it reads and predicts.
      statistics: What to normalise with; those of `./stats` by default.
      precision: "auto", "float32" or "bfloat16".
    """
    return models.build_predictor(
        model_config,
        task_config,
        statistics or models.load_statistics(),
        precision=precision,
        autoregressive_steps=True,
    )


@hk.transform_with_state
def run_forward(
    model_config: graphcast.ModelConfig,
    task_config: graphcast.TaskConfig,
    inputs: xarray.Dataset,
    targets_template: xarray.Dataset,
    forcings: xarray.Dataset,
    **settings: Any,
) -> xarray.Dataset:
    """Returns the forecast; `settings` as for `construct_wrapped_graphcast`.

    Only the shape of `targets_template` matters, so give `targets * np.nan`.
    """
    predictor = construct_wrapped_graphcast(model_config, task_config, **settings)
    return predictor(inputs, targets_template=targets_template, forcings=forcings)


@hk.transform_with_state
def loss_fn(
    model_config: graphcast.ModelConfig,
    task_config: graphcast.TaskConfig,
    inputs: xarray.Dataset,
    targets: xarray.Dataset,
    forcings: xarray.Dataset,
    **settings: Any,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss and its diagnostics by variable, means over the batch."""
    predictor = construct_wrapped_graphcast(model_config, task_config, **settings)
    loss = predictor.loss(inputs, targets, forcings)
    return xarray_tree.map_structure(
        lambda value: xarray_jax.unwrap_data(value.mean(), require_jax=True), loss
    )


def grads_fn(
    params: hk.Params,
    state: hk.State,
    model_config: graphcast.ModelConfig,
    task_config: graphcast.TaskConfig,
    inputs: xarray.Dataset,
    targets: xarray.Dataset,
    forcings: xarray.Dataset,
    **settings: Any,
) -> tuple[jax.Array, dict[str, jax.Array], hk.State, hk.Params]:
    """Returns loss, diagnostics, next state and the gradient by the parameters."""

    def _aux(params: hk.Params) -> tuple[jax.Array, tuple[Any, hk.State]]:
        (loss, diagnostics), next_state = loss_fn.apply(
            params,
            state,
            jax.random.PRNGKey(0),
            model_config,
            task_config,
            inputs,
            targets,
            forcings,
            **settings,
        )
        return loss, (diagnostics, next_state)

    (loss, (diagnostics, next_state)), grads = jax.value_and_grad(_aux, has_aux=True)(
        params
    )
    return loss, diagnostics, next_state, grads


def with_configs(function: Callable, model: models.Model, **settings: Any) -> Callable:
    """Returns the function with the configurations bound, so that it can be jitted."""
    return functools.partial(
        function,
        model_config=model.model_config,
        task_config=model.task_config,
        **settings,
    )


def with_params(function: Callable, model: models.Model) -> Callable:
    """Returns the function with the parameters and state bound."""
    return functools.partial(function, params=model.params, state=model.state)


def drop_state(function: Callable) -> Callable:
    """Returns the function without the state it hands back, which is empty."""
    return lambda **kwargs: function(**kwargs)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Makes a forecast and returns the exit code: 2 where the user can put it right."""
    args = argsparser().parse_args(argv)
    return reporting.run_reported(lambda: _main(args))


def _main(args: argparse.Namespace) -> None:
    print_arguments(args)
    if args.list:
        info.print_contents(args.dataset, args.pretrained)
        return
    settings = {name: value for name, value in vars(args).items() if name != "list"}
    options = predict.Options(**settings, truth=True)
    forecast = predict.make_forecast(options, draw=_draw(args.var, args.level))
    print("\nPredictions:")
    print(forecast.predictions)


def _draw(variable: str, level: int) -> pictures.StepDrawer:
    """Returns a function that draws one time of a forecast, beside its truth if any."""

    def draw(
        truth: xarray.Dataset | None,
        predictions: xarray.Dataset,
        suffix: str,
        out_dir: pathlib.Path,
    ) -> pathlib.Path:
        if truth is not None:
            return save_var_diff(
                truth, predictions, variable, level, suffix=suffix, out_dir=out_dir
            )
        field = select(predictions, variable, level)
        title = pictures.file_title(field) + suffix
        _, norm, _ = scale(field, robust=True)
        panels = {"Predictions": (field, norm, styles.find(field).colormap)}
        plot_data(panels, str(out_dir / title), plot_size=8, robust=True)
        return out_dir / f"{title}.png"

    return draw


if __name__ == "__main__":
    host_memory.keep_freed()
    sys.exit(main())
