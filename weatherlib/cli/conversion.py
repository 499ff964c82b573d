"""Files of weights described, and converted from one format to another."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from weatherlib.cli import console, weights
    from weatherlib.climax import CheckPoint, ClimaXConfig
    from weatherlib.weights import climax

__all__ = ["convert", "describe", "is_weights"]

_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")
_LISTED = 12


def is_weights(path: pathlib.Path) -> bool:
    """Whether a file holds arrays by published names, and is no checkpoint of ours."""
    from weatherlib import checkpoint
    from weatherlib.weights import torch_zip

    if not path.is_file():
        return False
    if _is_npz(path):
        return not any(
            checkpoint.holds(path, name) for name in ("description", "license")
        )
    return path.suffix in _SUFFIXES or torch_zip.is_torch_zip(path)


def _is_npz(path: pathlib.Path) -> bool:
    from weatherlib.weights import flat

    return flat.is_npz(path)


def describe(out: console.Console, path: pathlib.Path) -> None:
    """Prints what a file of weights holds.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It is of another kind, is damaged or would run something.
    """
    from weatherlib import checkpoint
    from weatherlib.weights import errors, flat

    printable = errors.printable
    file = flat.read(path)
    out.heading(f"Weights: {path}")
    count = sum(array.size for array in file.arrays.values())
    size = sum(array.nbytes for array in file.arrays.values())
    types = sorted({str(array.dtype) for array in file.arrays.values()})
    out.facts(
        [
            ("format", file.format),
            ("sha256", checkpoint.file_sha256(path)),
            ("arrays", f"{len(file.arrays)} under {file.place or 'the file itself'}"),
            ("numbers", f"{count:,}, {size / 1e6:.1f} MB of {', '.join(types)}"),
            ("model", _model(file.arrays)),
            *((printable(n), printable(text)) for n, text in file.metadata.items()),
        ]
    )
    out.print()
    for line in file.beside:
        out.print(f"  beside them, {line}")
    rows = [
        (printable(name), str(array.dtype), str(list(array.shape)))
        for name, array in file.arrays.items()
    ]
    out.print_columns(("array", "type", "shape"), rows[:_LISTED])
    if len(rows) > _LISTED:
        out.print(f"  and {len(rows) - _LISTED} more")


def _model(arrays: dict[str, np.ndarray]) -> str:
    """Returns which family the arrays belong to, as far as we know them."""
    from weatherlib.weights import (
        autoencoder_kl,
        climax_files,
        grid_sizes,
        prediff_networks,
    )

    if prediff_networks.looks_like(arrays):
        return prediff_networks.describe(arrays)
    if autoencoder_kl.looks_like(arrays):
        return autoencoder_kl.describe(arrays)
    if not climax_files.looks_like(arrays):
        name = grid_sizes.recognise(arrays)
        return "unknown" if name is None else f"{name}, by its names"
    known = climax_files.present_names(arrays)
    embedding, positions = known["var_embed"], known["pos_embed"]
    return (
        f"ClimaX of {embedding.shape[-2]} variables, {positions.shape[-2]} patches, "
        f"width {embedding.shape[-1]}"
    )


def convert(out: console.Console, options: weights.Options) -> None:
    """Writes the arrays of a file or a folder to another, and says what was done.

    Raises:
      FileNotFoundError: There is no such file, or it was not fetched.
      OSError: A file cannot be read or written.
      ValueError: The options do not go together, or the file is of another kind, is
        damaged or would run something.
    """
    from weatherlib.cli import vision_conversion
    from weatherlib.weights import climax_files, flat

    source = _source(str(options.name))
    if vision_conversion.is_folder(source):
        vision_conversion.convert(out, source, options)
        return
    if vision_conversion.is_own(source):
        vision_conversion.export(out, source, options)
        return
    target = _target(options, source)
    if _is_npz(source) and _export(out, source, target, options):
        return
    from weatherlib.cli import prediff_conversion

    if options.family in prediff_conversion.STAGES:
        prediff_conversion.convert(out, source, target, options)
        return
    kind = options.format or ("safetensors" if _is_safe(target) else None)
    if options.family not in (None, "climax"):
        from weatherlib.cli import grid_conversion

        grid = None if options.grid is None else _grid(options.grid)
        kind = kind or "weatherlib"
        grid_conversion.convert(out, source, target, kind, options, grid)
        return
    file = flat.read(source, verify=not options.unchecked)
    is_climax = climax_files.looks_like(file.arrays)
    kind = kind or ("weatherlib" if is_climax else "npz")
    through_model = kind == "weatherlib" or options.grid is not None or options.strict
    if through_model and not is_climax:
        raise ValueError(
            f"{source}: no ClimaX; say with --family which model it is, or leave "
            "--grid and --strict out, and write --format npz or safetensors"
        )
    if through_model:
        _convert_climax(out, source, target, kind, options)
        return
    flat.write(target, file.arrays, format=flat.as_format(kind), metadata=file.metadata)
    for line in file.beside:
        out.print(f"left out, for it is no array: {line}")
    out.print(f"{target}: {len(file.arrays)} arrays as {kind}, as they were")


def _source(name: str) -> pathlib.Path:
    """Returns the file that a name of the registry or a path stands for."""
    from weatherlib import hub
    from weatherlib.cli import files

    if pathlib.Path(name).exists() or name not in hub.entries():
        return files.existing(name, "the file of weights")
    entry = hub.find(name)
    path = hub.path_of(entry)
    if not hub.is_fetched(entry):
        how = f"run: weatherlib weights fetch {name} --yes"
        raise FileNotFoundError(f"{name}: not here; {how}")
    return path


def _target(options: weights.Options, source: pathlib.Path) -> pathlib.Path:
    """Returns the file to write.

    Raises:
      ValueError: There is none, it is the source, or its suffix is another format's.
    """
    from weatherlib.cli import files

    if options.output is None:
        raise ValueError(
            "weights convert: needs a file to write, such as weights.npz or "
            "weights.safetensors"
        )
    target = pathlib.Path(options.output)
    if target.suffix not in (".npz", ".safetensors"):
        raise ValueError(
            f"{target}: weights are written as .npz or .safetensors, found "
            f"{target.suffix or 'no suffix'}; torch files are only read"
        )
    if options.format is not None and _is_safe(target) != (
        options.format == "safetensors"
    ):
        raise ValueError(f"{target}: its suffix is not that of {options.format}")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target}: is the file to be converted; choose another name")
    files.writable_folder(target.parent)
    return target


def _is_safe(path: pathlib.Path) -> bool:
    return path.suffix == ".safetensors"


def _convert_climax(
    out: console.Console,
    source: pathlib.Path,
    target: pathlib.Path,
    kind: str,
    options: weights.Options,
) -> None:
    """Writes ClimaX weights after they have gone through the model."""
    from weatherlib.weights import climax, climax_files

    arrays = climax_files.read(source, verify=not options.unchecked)
    try:
        sizes = climax_files.infer_config(
            arrays, variables=options.variables, num_heads=options.num_heads or 16
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error} (option --variables)") from error
    wanted = sizes
    if options.grid is not None:
        wanted = sizes.replace(img_size=_grid(options.grid))
    loaded = climax.load(
        source,
        wanted,
        strict=options.strict,
        source_grid=sizes.img_size,
        verify=False,
    )
    out.print(str(loaded.report))
    _write_climax(target, kind, loaded)
    out.print(f"{target}: {wanted.img_size[0]}x{wanted.img_size[1]} grid, as {kind}")


def _grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ValueError(f"--grid {text}: rows and columns are needed, such as 64x128")
    return int(match[1]), int(match[2])


def _write_climax(target: pathlib.Path, kind: str, loaded: climax.Loaded) -> None:
    from weatherlib.weights import climax, climax_checkpoint, flat

    if kind == "weatherlib":
        climax_checkpoint.save(
            target,
            loaded.params,
            loaded.config,
            description=f"ClimaX, converted from {loaded.report.source}",
            license="as the converted file; published weights state none",
        )
        return
    arrays = climax.export(loaded.params, loaded.config)
    flat.write(target, arrays, format=flat.as_format(kind), metadata={"format": "np"})


def _export(
    out: console.Console,
    source: pathlib.Path,
    target: pathlib.Path,
    options: weights.Options,
) -> bool:
    """Writes a checkpoint of ours under the published names; returns if it is one.

    Raises:
      OSError: A file cannot be read or written.
      ValueError: Something is asked for that an export cannot do.
    """
    from weatherlib.cli import grid_conversion, prediff_conversion
    from weatherlib.weights import climax_checkpoint

    held = climax_checkpoint.open_checkpoint(source)
    on_grid = held is None and grid_conversion.held_model(source) is not None
    stage = prediff_conversion.held_stage(source)
    if held is None and not on_grid and stage is None:
        return False
    kind = options.format or ("safetensors" if _is_safe(target) else "npz")
    if kind == "weatherlib":
        raise ValueError(f"{source}: is a checkpoint of weatherlib already")
    if options.grid is not None:
        raise ValueError(
            "--grid: convert the published file, or export this one first and convert "
            "that"
        )
    if stage is not None:
        prediff_conversion.export(out, source, target, kind)
    elif held is None:
        grid_conversion.export(out, source, target, kind)
    else:
        _export_climax(out, held, target, kind)
    return True


def _export_climax(
    out: console.Console, held: CheckPoint, target: pathlib.Path, kind: str
) -> None:
    from weatherlib.weights import climax, flat

    sizes: ClimaXConfig = held.model_config
    arrays = climax.export(held.params, sizes)
    settings = {"format": "np", **_texts(sizes)} if kind == "safetensors" else None
    flat.write(target, arrays, format=flat.as_format(kind), metadata=settings)
    out.print(f"{target}: {len(arrays)} arrays under their published names, as {kind}")


def _texts(sizes: ClimaXConfig) -> dict[str, str]:
    """Returns the architecture as texts, for people who open the file."""
    return {name: str(value) for name, value in dataclasses.asdict(sizes).items()}
