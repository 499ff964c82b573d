"""Train a model from a configuration file.

The output folder receives checkpoint.npz (averaged weights in the published layout,
which `weatherlib predict --pretrained` reads), stats/, metrics.jsonl and metrics.csv,
events/ for TensorBoard, last/ and best/ (all that is needed to go on), and at the end
curves.png and report.html. Ctrl-C and SIGTERM keep the state first; --resume continues
from there, or from the last checkpoint of a killed run. Needs the `train` extra:
pip install 'weatherlib[train]', or '.[train]' in a clone.

Linear models (family lr or lr_multi) without stages are fitted in one pass over the
training period, which needs no extra; a fit that was stopped begins anew.

Several processes, as SLURM starts them or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES
and JAX_PROCESS_ID, train together when all are given the same command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import warnings
from collections.abc import Mapping
from typing import Annotated, Any

import tyro

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib train examples/configs/simulated_graphcast.yaml",
    "weatherlib train examples/configs/era5_msl.yaml --set data.path=era5.nc "
    "--set optimizer.weight_decay=0.05",
    "weatherlib train examples/configs/era5_msl.yaml --set data.path=era5.nc --resume",
    "weatherlib train examples/configs/era5_msl.yaml --dry-run",
    "weatherlib train examples/configs/era5_msl.yaml --set data.path=era5.nc "
    "--set stages.0.batch_size=4 --set sharding.mesh.data=4",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to train, and whether to continue."""

    config: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")]
    """Settings of the run."""

    set: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE"),
    ] = ()
    """Change a setting, such as stages.0.steps=100. Can be given several times."""

    resume: bool = False
    """Continue from the last checkpoint of the output folder, if there is one."""

    dry_run: bool = False
    """Read settings, data and weights to start from, compute the statistics, say what
    would be done, and stop."""


def run(options: Options) -> None:
    """Trains what the options ask for.

    Raises:
      ValueError: Settings, data and statistics do not fit each other.
      FileNotFoundError: A file is missing.
      FileExistsError: The output folder holds a run, and --resume is not given.
      BlockingIOError: Another process trains in the output folder.
      OSError: Something cannot be read or written.
      FloatingPointError: The loss is no number any more.
      ImportError: The `train` extra is not installed.
      LostWorkerError: Another process of the run is gone.
    """
    from weatherlib import training
    from weatherlib.cli import families, reporting, settings
    from weatherlib.training import distributed

    config = settings.read(training.TrainConfig, options.config, options.set)
    family, _ = families.find_family(config.model)
    with distributed.start(config.distributed, reporting.report) as processes:
        if family.weightless:
            from weatherlib.cli import weightless

            kind = weightless.Weightless
        elif family.closed_form and not config.stages:
            from weatherlib.cli import fitting

            kind = fitting.Fitting
        else:
            _train(options, config, processes)
            return
        from weatherlib.cli import solving

        solving.run(
            kind,
            config,
            resume=options.resume,
            dry_run=options.dry_run,
            processes=processes.num_processes,
        )


def _train(options: Options, config: Any, processes: Any) -> None:
    from weatherlib.cli import console, files, placing, runs, settings
    from weatherlib.training import checkpoints, faults, lock

    out = console.Console(quiet=not processes.is_main)
    with contextlib.ExitStack() as stack:
        if processes.is_main:
            files.writable_folder(config.output)
            stack.enter_context(lock.locked(config.output))
            if not (options.resume or options.dry_run):
                # Before anything of the run that is there is replaced.
                checkpoints.require_new(config.output)
        else:
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        with out.stage("preparation"):
            placement, facts = placing.make(config, processes)
            prepared = runs.Run(config, placement=placement, out=out)
            out.facts([*prepared.plan(), *facts])
        if options.dry_run:
            prepared.check_start()
            return
        if processes.is_main:
            text = settings.dump(config)
            (config.output / "config.yaml").write_text(text, encoding="utf8")
        with out.stage("training"), out.training() as display:
            try:
                result = prepared.train(
                    resume=options.resume, observers=[_Display(display)]
                )
            except faults.Stopped as stopped:
                stopped.add_note(f"{stopped}; continue with: {_command(options)}")
                raise
            except OSError as error:
                error.add_note(
                    f"when that is mended, continue with: {_command(options)}"
                )
                raise
    _summarise(out, config, result)


def _summarise(out: Any, config: Any, result: Any) -> None:
    from weatherlib.cli import console, families

    out.facts(
        [
            ("updates", f"{result.step}, {result.ended}"),
            ("in the loop", console.format_seconds(result.seconds)),
            ("data wait", f"{100 * result.waited_share:.2g} %"),
        ]
    )
    if result.best_step is not None:
        out.print(f"  best at update {result.best_step}: {result.best_metric:.5g}")
    out.print(f"{config.output}/checkpoint.npz, report.html, curves.png, metrics.jsonl")
    radar = config.data.radar is not None
    if families.find_family(config.model)[0].forecasts:
        out.print(console.what_next(config.output, config.data.path, radar=radar))
    out.print_times()


def _command(options: Options) -> str:
    words = ["weatherlib", "train", options.config]
    words += [word for change in options.set for word in ("--set", change)]
    return shlex.join([*words, "--resume"])


class _Display:
    """Shows records on the console."""

    def __init__(self, display: Any) -> None:
        self._display = display

    def begin(self, step: int, total: int) -> None:
        """Sets the bar."""
        self._display.begin(step, total)

    def record(self, record: Mapping[str, Any]) -> None:
        """Shows a record."""
        from weatherlib.cli import console

        if record["kind"] == "train":
            self._display.update(record)
        elif record["kind"] == "validation":
            first = f"update {record['step']}: validation loss {record['loss']:.5g}"
            self._display.note([first, *console.error_lines(record)])

    def close(self) -> None:
        """Does nothing: the console closes the bar."""
