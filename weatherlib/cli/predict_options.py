"""The options of `weatherlib predict`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import tyro

__all__ = ["Options"]

# What is said of how members differ, beside --perturb-all.
_PERTURBATIONS = (
    "perturb",
    "amplitude",
    "perturb_scale",
    "correlation_length",
    "breeding_cycles",
)

_Path = Annotated[str, tyro.conf.arg(metavar="PATH")]
_OptionalPath = Annotated[str | None, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to forecast, and what to write."""

    pretrained: Annotated[str, tyro.conf.arg(metavar="PATH", aliases=["--model"])] = (
        "./"
    )
    """Checkpoint file, a folder that holds exactly one, or the name of published
    weights that were fetched. Default: the bundled checkpoint."""

    dataset: Annotated[
        str | None, tyro.conf.arg(metavar="SOURCE", aliases=["--data"])
    ] = None
    """Weather to start from: NetCDF, Zarr or GRIB. Default: the bundled sample."""

    init: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Start of the forecast: 2026-01-15T00, latest or latest-24h; or a set of starts,
    START:END:STEP, END included, such as 2026-01-15T00:2026-01-20T00:12h, or a list
    with commas. Default: as late as the data hold truth for the forecast."""

    skip_missing: bool = False
    """Of a set of starts, leave out those whose frames are missing or have NaN, and say
    which at the end."""

    static: _OptionalPath = None
    """File with what does not change, such as land_sea_mask, where the data lack it."""

    time_step: Annotated[str | None, tyro.conf.arg(metavar="LENGTH")] = None
    """Time between two frames of the model, such as 6h, where --init starts from data
    with more frames and the checkpoint does not say it. Default: what the checkpoint
    says, else half of what the model reads, or the step of the data."""

    lead: Annotated[str | None, tyro.conf.arg(metavar="LENGTH")] = None
    """Length of one step, such as 72h, for a model that predicts any lead time directly
    (ClimaX). With --steps the forecast goes on from there in steps of that length.
    Default: the time step."""

    stats: _OptionalPath = None
    """Folder of the model's statistics. Default: stats/ beside the checkpoint."""

    mode: Literal["Checkpoint", "Random"] = "Checkpoint"
    """Where parameters come from. Random draws those of a small model, to try the path;
    it takes no --model."""

    steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Steps to forecast. Default: 1; 40 with neither --dataset nor --pretrained."""

    var: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Variable to draw. Default: 2m_temperature, or the first that is predicted."""

    level: int = 500
    """Pressure level to draw, hPa."""

    output: _OptionalPath = None
    """Write the forecast here, .nc or .zarr. Default: forecast.nc in --out-dir with
    neither --dataset nor --pretrained and a trained model, else nowhere."""

    overwrite: bool = False
    """Replace an older file of the name given by --output."""

    members: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Members of an ensemble. Default: a single forecast. Options on perturbations need
    at least 2."""

    sampler: Annotated[
        Literal["ddim", "ddpm", "dpmsolver++"] | None,
        tyro.conf.arg(metavar="{ddim,ddpm,dpmsolver++}"),
    ] = None
    """How models that draw their forecasts (PreDiff, latent diffusion) do it. Default:
    as the checkpoint says."""

    sampling_steps: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Steps of the sampler; fewer are faster. Default: as the checkpoint says, or what
    suits the sampler."""

    perturb: Annotated[
        Literal["gaussian", "spherical", "bred", "lagged"] | None,
        tyro.conf.arg(metavar="{gaussian,spherical,bred,lagged}"),
    ] = None
    """How members differ at the start: white noise, smooth noise, noise grown by the
    model itself, or earlier starts. Default: smooth noise; for models that draw their
    forecasts (PreDiff) all members start from the data as they are."""

    amplitude: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Size of perturbations, in standard deviations of --perturb-scale. Default: 0.085.
    """

    perturb_scale: Annotated[
        Literal["differences", "values"] | None,
        tyro.conf.arg(metavar="{differences,values}"),
    ] = None
    """Standard deviations that perturbations are scaled with, by variable and level: of
    differences between frames, or of values. Default: differences."""

    correlation_length: Annotated[float | None, tyro.conf.arg(metavar="KM")] = None
    """Length over which smooth noise stays alike, km. Default: 1200."""

    breeding_cycles: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Cycles of one step each in which bred perturbations grow. Default: 4."""

    perturb_all: bool = False
    """Perturb member 0 as well, which else starts from the data as they are."""

    seed: int = 0
    """Seed of all random numbers."""

    members_per_batch: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Members computed at a time; fewer take less memory."""

    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Starts of a set computed at a time. Default: as many as keep their data small."""

    derive: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAMES")] = ()
    """Quantities to add to the forecast, such as: wind_speed relative_humidity
    vorticity thickness_500_1000."""

    out_dir: _Path = "."
    """Folder for pictures and scores, made if it is missing."""

    animate: bool = False
    """Also draw an animation of all steps."""

    animation_format: Literal["gif", "mp4"] = "gif"
    """Format of the animation; mp4 needs the `mp4` extra."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto is bfloat16 on an accelerator and float32 on a CPU."""

    sharding: Annotated[str | None, tyro.conf.arg(metavar="AXIS=N,...")] = None
    """Spread the work over all devices, such as data=2,space=4 on eight: data shares
    starts and members, space the globe; -1 takes the devices left. Default: one device;
    with several processes data=-1 for a set and space=-1 for one forecast."""

    cache: _OptionalPath = None
    """Folder that keeps compiled programs and graphs, so that later runs start sooner.
    """

    on_violation: Literal["warn", "raise", "ignore"] = "warn"
    """What to do when a field becomes NaN or leaves its physical bounds."""

    conform: bool = False
    """Rename, convert and reorder data where nothing is lost by it, and say so."""

    truth: Annotated[bool, tyro.conf.Suppress] = False
    """Whether a frame of truth is needed, as examples/inference.py does."""

    @property
    def is_bare(self) -> bool:
        """Whether the bundled weather is forecast, with a model that nobody named."""
        return self.dataset is None and self.pretrained == "./"

    @property
    def writes_unasked(self) -> bool:
        """Whether a forecast goes to a file, in place of an older one, by default.

        One of random weights means nothing, and should not take the place of another.
        """
        return self.is_bare and self.mode == "Checkpoint"

    @property
    def is_set(self) -> bool:
        """Whether a set of forecasts is asked for: many starts, or members."""
        return self.members is not None or self.has_starts

    @property
    def has_starts(self) -> bool:
        """Whether many starts are asked for, even if there should be one only."""
        if self.init is None:
            return False
        from weatherlib import data

        return data.parse_starts(self.init).is_set

    @property
    def perturbations(self) -> list[str]:
        """The options given that say how members differ at the start."""
        names = [name for name in _PERTURBATIONS if getattr(self, name) is not None]
        names += ["perturb_all"] if self.perturb_all else []
        return [f"--{name.replace('_', '-')}" for name in names]

    def require_consistent(self) -> None:
        """Checks that no option is given that others leave without any effect.

        Raises:
          ValueError: One is.
        """
        if self.mode == "Random" and self.pretrained != "./":
            raise ValueError(
                f"--mode Random takes no --model (--pretrained), found "
                f"{self.pretrained}; leave one of the two out"
            )
        if self.skip_missing and not self.has_starts:
            raise ValueError(
                "--skip-missing: leaves starts out of a set; give one with --init "
                "START:END:STEP, or a list of dates"
            )
        # A single member is the forecast itself, unless it is perturbed as well.
        is_one = self.members is None or (self.members == 1 and not self.perturb_all)
        if is_one and self.perturbations:
            held = "no --members" if self.members is None else "--members 1"
            raise ValueError(
                f"{self.perturbations[0]}: needs --members N, at least 2, found {held}"
            )
