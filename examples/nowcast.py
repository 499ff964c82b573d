r"""Trains and tests nowcasts of radar pictures, by the published YAML files of PreDiff.

    python examples/nowcast.py --cfg configs/diffusion_cfg.yaml --mode train \
        --stage autoencoder
    python examples/nowcast.py --cfg configs/diffusion_cfg.yaml --mode train
    python examples/nowcast.py --cfg configs/diffusion_cfg.yaml --mode test --members 8

The stages of PreDiff are the autoencoder, the denoiser of its latent fields, and the
alignment network, which is needed to guide forecasts. `convlstm` trains a ConvLSTM on
the same samples, as a reference. Data are in `root_dir` of the file, or in --data: a
folder of SEVIR or SEVIR-LR, or with `dataset_name: radar` a radar file. The original
files, one for each stage, name no data and are taken as they are:

    python examples/nowcast.py --cfg prediff_sevirlr_v1.yaml --data sevirlr \
        --mode test --set summary.ckpt_path=pretrained_sevirlr_earthformerunet_v1.pt

What the published files have no key for stands in a section `weatherlib`, for all
stages or one of them:

    weatherlib:
      all: {data: {radar: {crop: 512, max_missing: 0.1}}}
      denoiser: {optimizer: {ema: 0.999}}

A configuration of `weatherlib train` does as well; it describes one stage. An
interrupted training is continued by the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from weatherlib import evaluation, host_memory
from weatherlib.cli import (
    console,
    files,
    nowcast_job,
    nowcast_keys,
    nowcast_networks,
    nowcast_pictures,
    nowcast_settings,
    nowcasters,
    nowcasting,
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
    add(
        "--stage",
        choices=tuple(nowcast_settings.STAGES),
        help="default: what the file is for; the denoiser, where it has all stages",
    )
    add("--data", metavar="PATH", help="data, in place of what the file names")
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
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the file, such as optim.lr, or of weatherlib train to change",
    )
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


def train(job: nowcast_job.Job) -> None:
    """Trains a stage, or goes on with it.

    Raises:
      ValueError: Settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    out = console.Console()
    job.check()
    config = job.config()
    _say_unused(job, out)
    files.writable_folder(config.output)
    run = runs.Run(config, out=out)
    out.facts(run.plan())
    text = settings.dump(config)
    (config.output / "config.yaml").write_text(text, encoding="utf8")
    result = run.train(resume=True)
    out.print(f"{result.step} updates, {result.ended}; see {config.output}/report.html")


def _say_unused(job: nowcast_job.Job, out: console.Console) -> None:
    """Prints the keys of the file that nothing follows."""
    if job.published is not None and job.published.unused:
        out.print(f"without effect: {', '.join(job.published.unused)}")


def test(job: nowcast_job.Job, args: argparse.Namespace) -> None:
    """Scores a trained stage beside references on the test samples.

    Raises:
      ValueError: Settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    if job.stage in ("autoencoder", "alignment"):
        raise ValueError(
            f"--mode test --stage {job.stage}: makes no nowcasts; test the denoiser"
        )
    with tempfile.TemporaryDirectory() as folder:
        _test(job, args, folder)


def _test(job: nowcast_job.Job, args: argparse.Namespace, converted: str) -> None:
    """Does what `test` says, with a folder for checkpoints of published weights."""
    job.check()
    out, data, folder = console.Console(), job.data(), job.output() / "test"
    _say_unused(job, out)
    models = job.checkpoints(converted)
    leads = max(nowcasters.frames_of(path) for path in models.values())
    samples = nowcasting.find_samples(data, nowcasting.find_period(data), leads)
    given = job.published
    thresholds = evaluation.NowcastConfig().thresholds
    if given is not None:
        listed = given.get("data.threshold_list") or thresholds
        thresholds = tuple(map(float, listed))
    options = dataclasses.replace(
        _options(job, args, float(samples.cell_km), converted),
        progress=out.steps("Denoising"),
    )
    found = nowcasting.collect(
        models, ("persistence", "extrapolation"), samples, options
    )
    examples = _examples(given, len(samples))
    numbers = nowcasting.choose(samples, args.samples)
    if given is not None and given.get("eval.eval_example_only") and examples:
        numbers = np.array(examples[: args.samples])
        out.print(f"{len(numbers)} listed samples are judged: eval_example_only")
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
    cases = examples or nowcasting.rainiest(samples, numbers, 1)
    nowcast_pictures.draw_cases(found, samples, cases, folder)
    for title, heading, lines in nowcasting.score_table(scores):
        out.print(title)
        out.table(heading, lines)
    out.print(f"{folder}: scores, curves, spectra and {len(cases)} case(s)")


def _options(
    job: nowcast_job.Job, args: argparse.Namespace, cell_km: float, converted: str
) -> nowcasters.Options:
    """Returns how nowcasts are drawn."""
    given, members = job.published, args.members
    if given is not None:
        members = members or given.get("eval.num_samples_per_context")
    clips = given is not None and given.get("diffusion.clip_denoised", False)
    return nowcasters.Options(
        members=8 if members is None else members,
        seed=0 if given is None else given.get("optim.seed") or 0,
        cell_km=cell_km,
        guide=job.guide(args.guide, args.alignment, converted),
        sampler=args.sampler,
        latent_clip=nowcast_networks.LATENT_LIMIT if clips else None,
    )


def _examples(given: nowcast_keys.Published | None, count: int) -> list[int]:
    """Returns the samples that the file wants to see, of so many."""
    if given is None:
        return []
    listed = given.get("eval.test_example_data_idx_list") or []
    return [number for number in listed if number < count]


def run(words: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
      ValueError: Options, settings and data do not go together.
      OSError: Something cannot be read or written.
    """
    args = parser().parse_args(words)
    if args.members is not None and args.members < 1:
        raise ValueError(f"--members is at least 1, found {args.members}")
    job = nowcast_job.Job(args.cfg, args.stage, args.set, args.data)
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
