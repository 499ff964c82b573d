"""Encode and decode weather, and say what an autoencoder keeps of it.

Errors stand in the units of each variable, and a picture shows original, reconstruction
and difference. MODEL is the checkpoint of a latent_autoencoder, latent_unet or
latent_diffusion model, or the folder of published weights: those of Stable Diffusion
(config.json and diffusion_pytorch_model.safetensors), of a representation autoencoder,
or of a vision encoder with --decoder. Published ones are made for images: each variable
and level is shown to them as a grey one, its lowest value as -1 and its highest as 1.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import tyro

__all__ = ["EXAMPLES", "Options", "run"]

EXAMPLES = (
    "weatherlib reconstruct runs/latent_autoencoder/checkpoint.npz --data era5.nc",
    "weatherlib reconstruct sd-vae-mse --data era5.nc --variables 2m_temperature",
    "weatherlib reconstruct dinov2-base --decoder decoder_folder --data era5.nc",
)

Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to encode, by what, and where to say how well."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Checkpoint, folder of published weights, or their name if they were fetched."""

    data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Weather: .nc, .zarr or .grib; the bundled sample by default."""

    variables: Words = ()
    """Variables for published weights. Default: 2m_temperature."""

    levels: Annotated[tuple[int, ...], tyro.conf.arg(metavar="HPA ...")] = ()
    """Levels for published weights. Default: all."""

    period: Annotated[str | None, tyro.conf.arg(metavar="FIRST:LAST")] = None
    """Days to take frames from, both inside. Default: all."""

    frames: Annotated[int, tyro.conf.arg(metavar="N")] = 32
    """Most frames, spread evenly over the period."""

    decoder: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Weights of the decoder for a vision encoder that comes without one."""

    encoder_input_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Sides of the images that a vision encoder is given."""

    fill_up: bool = False
    """Fill up fields whose sides are no multiples of 8 for Stable Diffusion."""

    latent_statistics: Annotated[str | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Where to keep mean and variance of each latent number, by which latent fields of
    representation autoencoders are normalised."""

    out_dir: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "."
    """Folder for reconstruction.json and reconstruction.png."""


def run(options: Options) -> None:
    """Reconstructs what the options ask for.

    Raises:
      ValueError: Model and data do not go together.
      FileNotFoundError: A file is missing.
      OSError: A file is damaged or cannot be written.
    """
    from weatherlib.cli import coders, console, field_errors, files, reconstruction

    if options.frames < 1:
        raise ValueError(f"--frames is at least 1, found {options.frames}")
    out = console.Console()
    with out.stage("load"):
        coder = coders.open_coder(options)
        frames = reconstruction.frames_of(options, coder)
    out.facts(coder.facts)
    folder = files.writable_folder(options.out_dir)
    with out.stage("reconstruct"), out.progress("Frames", len(frames)) as progress:
        found = reconstruction.reconstruct(coder, frames, progress=progress)
    paths = reconstruction.write(found, coder, folder)
    if options.latent_statistics is not None:
        paths.append(reconstruction.write_statistics(found, options.latent_statistics))
    span = f"{found.first} to {found.last}".replace("T", " ") + " UTC"
    out.heading(f"Errors of {found.count} reconstructed frames, {span}")
    out.table(*field_errors.table(found.errors))
    out.heading("Files")
    for path in paths:
        out.print(f"  {path}")
    out.print_times()
