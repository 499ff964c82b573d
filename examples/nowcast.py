r"""Trains and tests nowcasts of radar pictures, by the published YAML files of PreDiff.

    python examples/nowcast.py --cfg configs/diffusion_cfg.yaml --mode train \
        --stage autoencoder
    python examples/nowcast.py --cfg configs/diffusion_cfg.yaml --mode train
    python examples/nowcast.py --cfg configs/diffusion_cfg.yaml --mode test --members 8

The stages of PreDiff are the autoencoder, the denoiser of its latent fields, and the
alignment network, which is needed to guide forecasts. `convlstm` trains a ConvLSTM on
the same samples, as a reference. Data are in `root_dir` of the file: a folder of SEVIR
or SEVIR-LR, or with `dataset_name: radar` a radar file. What the published files have
no key for stands in a section `weatherlib`, for all stages or one of them:

    weatherlib:
      all: {data: {radar: {crop: 512, max_missing: 0.1}}}
      denoiser: {optimizer: {ema: 0.999}}

A configuration of `weatherlib train` does as well; it describes one stage. An
interrupted training is continued by the same command.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from weatherlib import config as configs
from weatherlib import evaluation, host_memory, training
from weatherlib.cli import (
    console,
    files,
    nowcast_keys,
    nowcast_pictures,
    nowcast_settings,
    nowcasters,
    nowcasting,
    radar_frames,
    reporting,
    runs,
    settings,
)

TARGETS = ("Ascend", "CPU", "GPU", "TPU")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    found = reporting.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="nowcast.py [--cfg FILE] [--mode train|test] [options]",
    )
    add = found.add_argument
    add("--cfg", default="./configs/diffusion_cfg.yaml", metavar="FILE")
    add("--mode", default="train", choices=("train", "test"))
    add("--device_target", choices=TARGETS, help="default: what JAX computes on")
    add("--device_id", type=int, default=0, metavar="N")
    add("--stage", choices=tuple(nowcast_settings.STAGES), help="default: denoiser")
    add("--members", type=int, metavar="N", help="futures of each test sample")
    add(
        "--guide",
        nargs="?",
        const="",
        metavar="SCALE[:FACTOR[:last|truth]]",
        help="pull the mean intensity towards FACTOR times that of the last frame, or "
        "of what follows in truth: an experiment, in the published script with factor "
        "2; the scale is guide_scale of the file by default",
    )
    add("--alignment", metavar="PATH", help="trained network for --guide")
    add("--sampler", metavar="KIND[:STEPS]", help="such as ancestral or dpm_solver:20")
    add("--samples", type=int, metavar="N", help="most test samples; default: all")
    add("--set", action="append", default=[], metavar="KEY=VALUE")
    return found


def device(target: str | None, number: int) -> Any:
    """Returns the device to compute on; None is the default one of JAX.

    Raises:
      ValueError: There is no such device.
    """
    if target == "Ascend":
        warnings.warn(
            "--device_target Ascend: JAX knows no such device, its default one is used",
            stacklevel=2,
        )
        target = None
    try:
        devices = jax.devices(None if target is None else target.lower())
    except RuntimeError:
        held = sorted({one.platform.upper() for one in jax.devices()})
        raise ValueError(
            f"--device_target {target}: there is none; there is {', '.join(held)}"
        ) from None
    if not 0 <= number < len(devices):
        raise ValueError(
            f"--device_id {number}: there are {len(devices)}, counted from 0"
        )
    return devices[number]


class Job:
    """What a configuration file asks for, whichever kind it is.

    Attributes:
      stage: What is trained or tested.
      published: The file, where it is of the published kind.
    """

    def __init__(self, path: str, stage: str | None, changes: Sequence[str]) -> None:
        """Reads a file.

        Raises:
          FileNotFoundError: There is none.
          ValueError: It is no YAML, or has an unknown key.
        """
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(
                f"{path}: the configuration does not exist; examples/configs holds "
                "some, and --cfg names one"
            )
        values = settings.read_values(path)
        self._path, self._changes, self.stage = path, changes, stage or "denoiser"
        self.published: nowcast_keys.Published | None = None
        if not nowcast_keys.is_published(values):
            family = str((values.get("model") or {}).get("family"))
            names = {name: key for key, name in nowcast_settings.STAGES.items()}
            self.stage = names.get(family, family)
            if stage not in (None, self.stage):
                raise ValueError(f"{path}: trains {self.stage}, not --stage {stage}")
            return
        try:
            self.published = nowcast_keys.read_published(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def config(self) -> training.TrainConfig:
        """Returns the settings of the training.

        Raises:
          ValueError: A value is wrong, or the data do not fit.
          OSError: The data cannot be read.
        """
        if self.published is None:
            return settings.read(training.TrainConfig, self._path, self._changes)
        samples = self._train_samples()
        autoencoder = nowcast_settings.output_of(self.published, "autoencoder")
        values = self._named(
            lambda given: nowcast_settings.run_settings(
                given,
                self.stage,
                samples=samples,
                autoencoder=autoencoder / "checkpoint.npz",
            )
        )
        for word in self._changes:
            settings.change(values, word)
        return configs.from_dict(training.TrainConfig, values)

    def data(self) -> training.DataConfig:
        """Returns the settings of the data.

        Raises:
          ValueError: A value is wrong.
        """
        if self.published is None:
            return nowcasting.read_data(self._path, None, self._changes)
        values: dict[str, Any] = {"data": self._named(nowcast_settings.data_settings)}
        for part in ("all", self.stage):
            own = self.published.own.get(part) or {}
            values = nowcast_settings.merge(values, {"data": own.get("data") or {}})
        for word in self._changes:
            settings.change(values, word)
        return configs.from_dict(training.DataConfig, values["data"])

    def output(self) -> pathlib.Path:
        """Returns the folder of the stage."""
        if self.published is None:
            return self.config().output
        values: dict[str, Any] = {
            "output": str(nowcast_settings.output_of(self.published, self.stage))
        }
        for part in ("all", self.stage):
            values = nowcast_settings.merge(values, self.published.own.get(part) or {})
        for word in self._changes:
            settings.change(values, word)
        return pathlib.Path(values["output"])

    def checkpoints(self) -> dict[str, pathlib.Path]:
        """Returns what is tested by name: the stage, and a ConvLSTM beside it."""
        found = {self.stage: self.output() / "checkpoint.npz"}
        if self.published is None:
            return found
        named = self.published.get("summary.ckpt_path")
        if self.stage == "denoiser" and named and pathlib.Path(named).is_file():
            found[self.stage] = pathlib.Path(named)
        beside = nowcast_settings.output_of(self.published, "convlstm")
        if (beside / "checkpoint.npz").is_file():
            found["convlstm"] = beside / "checkpoint.npz"
        return found

    def guide(self, text: str | None, path: str | None) -> nowcasters.Guide | None:
        """Returns what members are guided by: `--guide` and `--alignment`.

        Raises:
          ValueError: There is no alignment network, or the text is no guide.
        """
        if text is None:
            return None
        given = self.published
        if given is not None:
            text = text or str(given.get("align.guide_scale", 50.0))
            trained = nowcast_settings.output_of(given, "alignment")
            named = given.get("align.model_ckpt_path")
            path = path or (str(trained) if trained.is_dir() else named)
        if not path:
            raise ValueError(
                "--guide: needs a trained alignment network; train --stage alignment, "
                "or name one with --alignment"
            )
        return nowcasters.Guide.parse(text or "50", path)

    def _named(self, make: Any) -> dict[str, Any]:
        """Returns what a function makes of the file, which its errors name."""
        try:
            return make(self.published)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def _train_samples(self) -> int:
        """Returns how many samples there are, each counted in all ways."""
        assert self.published is not None
        data = self.data()
        targets = nowcast_settings.frames_of(self.published)[1]
        return len(radar_frames.RadarFrames(data).starts(data.train, targets=targets))


def train(job: Job) -> None:
    """Trains a stage, or goes on with it.

    Raises:
      ValueError: Settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    out = console.Console()
    config = job.config()
    if job.published is not None and job.published.unused:
        out.print(f"without effect: {', '.join(job.published.unused)}")
    files.writable_folder(config.output)
    run = runs.Run(config, out=out)
    out.facts(run.plan())
    text = settings.dump(config)
    (config.output / "config.yaml").write_text(text, encoding="utf8")
    result = run.train(resume=True)
    out.print(f"{result.step} updates, {result.ended}; see {config.output}/report.html")


def test(job: Job, args: argparse.Namespace) -> None:
    """Scores a trained stage beside references on the test samples.

    Raises:
      ValueError: Settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    if job.stage in ("autoencoder", "alignment"):
        raise ValueError(
            f"--mode test --stage {job.stage}: makes no nowcasts; test the denoiser"
        )
    out, data, folder = console.Console(), job.data(), job.output() / "test"
    models = job.checkpoints()
    leads = max(nowcasters.frames_of(path) for path in models.values())
    samples = nowcasting.find_samples(data, nowcasting.find_period(data), leads)
    given = job.published
    members, thresholds = args.members, evaluation.NowcastConfig().thresholds
    if given is not None:
        members = members or given.get("eval.num_samples_per_context")
        listed = given.get("data.threshold_list") or thresholds
        thresholds = tuple(map(float, listed))
    options = nowcasters.Options(
        members=8 if members is None else members,
        seed=0 if given is None else int(given.get("optim.seed", 0)),
        cell_km=float(samples.cell_km),
        guide=job.guide(args.guide, args.alignment),
        sampler=args.sampler,
        progress=out.steps("Denoising"),
    )
    found = nowcasting.collect(
        models, ("persistence", "extrapolation"), samples, options
    )
    numbers = nowcasting.choose(samples, args.samples)
    judged = evaluation.NowcastConfig(neighbourhoods=(), thresholds=thresholds)
    files.writable_folder(folder)
    with out.progress("Samples", len(numbers)) as progress:
        scores = evaluation.evaluate_nowcasts(
            found,
            samples,
            judged,
            numbers=numbers,
            over_leads="both",
            progress=progress,
        )
    nowcasting.write_scores(scores, folder)
    nowcast_pictures.draw_scores(scores, folder)
    cases = nowcasting.rainiest(samples, numbers, 1)
    if given is not None:
        listed = given.get("eval.test_example_data_idx_list") or cases
        cases = [n for n in listed if 0 <= n < len(samples)] or cases
    nowcast_pictures.draw_cases(found, samples, cases, folder)
    for title, heading, lines in nowcasting.score_table(scores):
        out.print(title)
        out.table(heading, lines)
    out.print(f"{folder}: scores, curves, spectra and {len(cases)} case(s)")


def run(words: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
      ValueError: Options, settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    args = parser().parse_args(words)
    if args.members is not None and args.members < 1:
        raise ValueError(f"--members is at least 1, found {args.members}")
    job = Job(args.cfg, args.stage, args.set)
    with jax.default_device(device(args.device_target, args.device_id)):
        if args.mode == "train":
            train(job)
        else:
            test(job, args)


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 after an error that a user can put right."""
    given = sys.argv[1:] if words is None else list(words)
    return reporting.run_reported(lambda: run(given))


if __name__ == "__main__":
    host_memory.keep_freed()
    sys.exit(main())
