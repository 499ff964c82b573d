r"""Trains direct forecasts by a vision encoder: past frames in, future frames out.

    weatherlib simulate archive.nc --days 200
    python examples/train_stage1_direct.py --data archive.nc --encoder-ckpt random \
        --set "model.encoder={layout: mae, hidden_size: 96, num_hidden_layers: 3,
        num_attention_heads: 4, intermediate_size: 384, patch_size: 16,
        image_size: 128}" --token-dim 96 --patch-size 16 --epochs 2

With published weights, on a GPU of 24 GB or more:

    weatherlib weights fetch dinov2-giant-timm --yes
    python examples/train_stage1_direct.py --data era5_5.625deg.zarr

Past frames lie side by side as channels. A 1x1 convolution (in_adapter) makes three
colours of them, the image is resized to what the encoder was trained on, and the
encoder, which is frozen, makes tokens of its patches. A decoder, which is trained,
makes the future frames of the tokens.

Written to --output-dir: checkpoint.npz, for weatherlib predict, evaluate and info;
metrics_stage1_direct.json with RMSE and MAE of forecasts that training did not see;
spatial_examples_stage1.png with maps of one of them; decoder_fp16.safetensors and
encoder_in_adapter_fp16.safetensors, of half precision, for --init-from of later runs;
and report.html about the training. An interrupted run is continued by the same command.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from weatherlib import config as configs
from weatherlib import data, host_memory, training
from weatherlib.cli import (
    backbones,
    console,
    direct_results,
    field_errors,
    files,
    models,
    reporting,
    settings,
)
from weatherlib.cli import train as trainer
from weatherlib.weights import direct_parts, flat

RANDOM = "random"
SETTINGS = "stage1_direct.yaml"
_DAY = np.timedelta64(1, "D")


def truth_value(text: str) -> bool:
    """Returns what `true` or `false` says."""
    found = {"true": True, "false": False}.get(text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return found


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    found = reporting.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="train_stage1_direct.py --data PATH [options]",
    )
    flag = {"type": truth_value, "metavar": "true|false"}
    add = found.add_argument_group("data").add_argument
    add(
        "--data",
        required=True,
        metavar="PATH",
        help="what weatherlib opens: .nc, .zarr",
    )
    add("--variables", default="2m_temperature", help="separated by commas or spaces")
    add("--levels", default="", help="of variables on levels, hPa; default: all")
    add(
        "--time-slice",
        default="2015-01-01:2019-12-31",
        metavar="FIRST:LAST",
        help="days to train on; where the data lie elsewhere, their first nine tenths",
    )
    add(
        "--test-slice",
        metavar="FIRST:LAST",
        help="days that metrics are of; default: what follows the days to train on",
    )
    add("--input-length", type=int, default=12, metavar="N", help="past frames")
    add("--output-length", type=int, default=4, metavar="N", help="future frames")
    add = found.add_argument_group("training").add_argument
    add("--batch-size", type=int, default=4, metavar="N")
    add("--lr", type=float, default=5e-5, metavar="RATE", help="largest learning rate")
    add("--epochs", type=int, default=80, metavar="N")
    add("--seed", type=int, default=0, metavar="N")
    add("--precision", choices=models.PRECISIONS, default="auto")
    add = found.add_argument_group("model").add_argument
    add("--token-dim", type=int, default=1536, metavar="N", help="checked")
    add("--patch-size", type=int, default=14, metavar="N", help="checked")
    add("--freeze-backbone", default=True, help="keep the encoder", **flag)
    add("--train-in-adapter", default=True, help="train the 1x1 convolution", **flag)
    add(
        "--backbone",
        default="vit_giant_patch14_dinov2",
        metavar="NAME",
        help="published encoder, where --encoder-ckpt names no folder",
    )
    add(
        "--encoder-ckpt",
        default="",
        metavar="PATH",
        help="folder of encoder weights; empty: the published ones of --backbone, once "
        "they were fetched; random: random ones, to try things",
    )
    add(
        "--init-from",
        metavar="PATH",
        help="decoder and in_adapter to begin with: output folder or checkpoint.npz of "
        "a former run, or a decoder's file",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any setting of weatherlib train, such as model.decoder_hidden_size=256",
    )
    add = found.add_argument_group("results").add_argument
    add("--output-dir", default="./outputs_stage1_direct_integrated", metavar="DIR")
    add("--samples", type=int, default=64, metavar="N", help="most forecasts to judge")
    add(
        "--format",
        choices=flat.FORMATS,
        default="safetensors",
        help="of the files of half precision",
    )
    return found  # fmt: skip


class Plan(NamedTuple):
    """What is trained on, and judged by.

    Attributes:
      train: Training period.
      test: Of the forecasts that are judged.
      note: Where the periods are not those that were asked for; empty else.
    """

    train: training.Period
    test: training.Period
    note: str = ""


def period(text: str, flag: str) -> training.Period:
    """Returns a period of whole days, both inside.

    Raises:
      ValueError: It is none.
    """
    first, _, last = text.partition(":")
    try:
        begin, end = (np.datetime64(word.strip(), "D") for word in (first, last))
    except ValueError:
        raise ValueError(
            f"{flag}: expected FIRST:LAST such as 2015-01-01:2019-12-31, found {text!r}"
        ) from None
    if np.isnat(begin) or np.isnat(end) or end < begin:
        raise ValueError(f"{flag} {text}: the last day is before the first, or missing")
    return training.Period(start=str(begin), end=str(end + _DAY))


def plan(args: argparse.Namespace, times: np.ndarray) -> Plan:
    """Returns the periods.

    Args:
      args: Of the command line.
      times: Of the data.

    Raises:
      ValueError: A period is none.
    """
    asked = period(args.time_slice, "--time-slice")
    first, last = times.min(), times.max()
    begin, end = np.datetime64(asked.start), np.datetime64(asked.end)
    test = None if args.test_slice is None else period(args.test_slice, "--test-slice")
    note = ""
    if end <= first or begin > last:
        if args.time_slice != parser().get_default("time_slice"):
            raise ValueError(
                f"--time-slice {args.time_slice}: the data have only times from "
                f"{_stamp(first)} to {_stamp(last)}"
            )
        begin, end = first, first + (last - first) * 9 // 10
        note = f"trained until {_stamp(end)}, for the data lack {args.time_slice}"
    elif test is None and end > last:
        end = max(begin, first) + (last - max(begin, first)) * 9 // 10
        note = f"trained until {_stamp(end)}, and judged by what follows"
    found = training.Period(start=_stamp(begin), end=_stamp(end))
    return Plan(train=found, test=test or training.Period(start=_stamp(end)), note=note)


def _stamp(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="m"))


def model_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the section `model` of a configuration.

    Raises:
      ValueError: The encoder has other sizes than were asked for.
      FileNotFoundError: Its weights are not there.
    """
    found: dict[str, Any] = {
        "family": "stage1_direct",
        "input_length": args.input_length,
        "output_length": args.output_length,
        "freeze_backbone": args.freeze_backbone,
        "train_in_adapter": args.train_in_adapter,
    }
    given: dict[str, Any] = {"model": found}
    if args.encoder_ckpt == RANDOM:
        found["random_backbone"] = True
        found["backbone"] = args.backbone
    else:
        folder = backbones.find_folder(
            args.encoder_ckpt or args.backbone, "--encoder-ckpt"
        )
        found["backbone"] = str(folder)
    for word in args.set:
        if word.startswith("model."):
            settings.change(given, word)
    sizes = given["model"].get("encoder")
    if sizes is None:
        sizes = backbones.find_sizes(found["backbone"], "--backbone")
    for flag, key, asked in (
        ("--token-dim", "hidden_size", args.token_dim),
        ("--patch-size", "patch_size", args.patch_size),
    ):
        held = sizes.get(key) if isinstance(sizes, dict) else sizes[key]
        if held != asked:
            raise ValueError(f"{flag} {asked}: the encoder has {held}")
    return given["model"]


def configuration(
    args: argparse.Namespace, periods: Plan, step: np.timedelta64
) -> training.TrainConfig:
    """Returns the settings of the run.

    Args:
      args: Of the command line.
      periods: What is trained on.
      step: Time between frames.

    Raises:
      ValueError: A setting is wrong.
      FileNotFoundError: The weights of the encoder are not there.
    """
    names = args.variables.replace(",", " ").split()
    if not names:
        raise ValueError("--variables is empty; name one, such as 2m_temperature")
    duration = step * args.input_length / np.timedelta64(1, "m")
    values: dict[str, Any] = {
        "output": args.output_dir,
        "data": {
            "path": args.data,
            "task": {
                "input_variables": names,
                "target_variables": names,
                "forcing_variables": [],
                "pressure_levels": _levels(args, names),
                "input_duration": f"{duration:g}min",
            },
            "train": dict(periods.train),
        },
        "model": model_settings(args),
        "stages": [{"epochs": args.epochs, "batch_size": args.batch_size}],
        "schedule": {
            "peak": args.lr, "start": args.lr / 10, "end": args.lr / 10,
            "warmup_epochs": min(1.0, args.epochs / 10),
        },
        "optimizer": {"b2": 0.999, "weight_decay": 0.01},
        "precision": args.precision,
        "seed": args.seed,
        "description": "Direct forecasts by a vision encoder",
    }  # fmt: skip
    if args.init_from:
        values["init_from"] = {"path": args.init_from, "adapt": True}
    for word in args.set:
        settings.change(values, word)
    return configs.from_dict(training.TrainConfig, values)


def _levels(args: argparse.Namespace, names: Sequence[str]) -> list[int]:
    if args.levels:
        try:
            return [int(word) for word in args.levels.replace(",", " ").split()]
        except ValueError:
            raise ValueError(
                f"--levels {args.levels}: expected numbers such as 500,850"
            ) from None
    dataset = data.open_dataset(args.data)
    on_levels = [n for n in names if n in dataset and "level" in dataset[n].dims]
    return [int(p) for p in dataset["level"].values] if on_levels else []


def finish(
    args: argparse.Namespace, config: training.TrainConfig, periods: Plan
) -> None:
    """Writes what the training has come to.

    Raises:
      ValueError: There is no forecast to judge.
      OSError: A file cannot be read or written.
    """
    out, folder = console.Console(), pathlib.Path(args.output_dir)
    model = models.load_model(folder / "checkpoint.npz")
    statistics = models.find_statistics(model)
    dataset, _ = data.conform(data.open_dataset(args.data), model.task_config)
    frames = training.Frames(dataset, model.task_config, source=args.data)
    starts = frames.starts(periods.test, targets=args.output_length)
    count = min(len(starts), args.samples)
    starts = starts[np.linspace(0, len(starts) - 1, count).round().astype(int)]
    with out.progress("Forecasts", len(starts)) as progress:
        judged = direct_results.judge(
            model,
            statistics,
            frames,
            starts,
            batch_size=args.batch_size,
            precision=args.precision,
            progress=progress,
        )
    direct_results.write_metrics(
        judged,
        folder / direct_results.METRICS,
        model="stage1_direct",
        checkpoint_sha256=model.digest,
        train=dict(periods.train),
    )
    direct_results.draw(judged, folder / direct_results.PICTURE)
    sizes = model.model_config.sizes
    outputs = len(judged.errors)
    grid = sizes.grid(*model.model_config.image_size(sizes))
    written = direct_parts.write(
        folder,
        model.params,
        model.model_config.decoder(outputs).decoder(grid),
        format=args.format,
    )
    out.heading(f"Errors of {judged.samples} forecasts of {args.output_length} frames")
    out.table(*field_errors.table(judged.errors, {"persistence": judged.persistence}))
    out.heading("Files")
    names = (direct_results.METRICS, direct_results.PICTURE, *(p.name for p in written))
    for name in names:
        out.print(f"  {folder / name}")


def run(words: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
      ValueError: Options, settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    args = parser().parse_args(words)
    for name in ("input_length", "output_length", "batch_size", "epochs", "samples"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is at least 1, found {getattr(args, name)}")
    if not args.lr > 0:
        raise ValueError(f"--lr must be positive, found {args.lr}")
    dataset = data.open_dataset(args.data)
    times = dataset["datetime" if "datetime" in dataset.coords else "time"].values
    times = times.ravel().astype("datetime64[ns]")
    if len(times) < 2:
        raise ValueError(f"{args.data}: has {len(times)} frame(s), which teach nothing")
    periods = plan(args, times)
    config = configuration(args, periods, np.diff(times).min())
    folder = files.writable_folder(args.output_dir)
    (folder / SETTINGS).write_text(settings.dump(config), encoding="utf8")
    if periods.note:
        console.Console().print(periods.note)
    trainer.run(trainer.Options(config=str(folder / SETTINGS), resume=True))
    finish(args, config, periods)


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 after an error that a user can put right."""
    given = sys.argv[1:] if words is None else list(words)
    return reporting.run_reported(lambda: run(given))


if __name__ == "__main__":
    host_memory.keep_freed()
    sys.exit(main())
