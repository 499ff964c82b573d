"""Files of published ClimaX weights: arrays, and the architecture they belong to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from weatherlib.climax import config as climax_config
from weatherlib.typing import PathLike
from weatherlib.weights import errors, flat, positions

__all__ = [
    "PREFIX",
    "STACKED_BIASES",
    "STACKED_WEIGHTS",
    "Arrays",
    "infer_config",
    "looks_like",
    "present_names",
    "read",
    "read_arrays",
]

PREFIX = "net."
STACKED_WEIGHTS = "token_embeds.proj_weights"
STACKED_BIASES = "token_embeds.proj_biases"

Shape = tuple[int, ...]


@dataclasses.dataclass(kw_only=True)
class Arrays:
    """Published arrays on their way, by present name without prefix.

    Attributes:
      source: Name of the file and its format.
      arrays: By name.
      original: Name in the file, by present name.
      renamed: As in the report.
      altered: As in the report.
      dropped: As in the report.
      beside: As in the report.
      is_torch: Whether the file is as published.
    """

    source: str
    arrays: dict[str, np.ndarray]
    original: dict[str, str]
    renamed: list[str]
    altered: list[str]
    dropped: dict[str, tuple[Shape, str]]
    beside: tuple[str, ...]
    is_torch: bool

    def drop(self, name: str, reason: str) -> None:
        """Takes an array out and remembers why."""
        array = self.arrays.pop(name)
        self.dropped[self.original[name]] = (array.shape, reason)


def read(path: PathLike, *, verify: bool = True) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by present published name, without `net.`.

    Args:
      path: A published `.ckpt`, or an npz or safetensors file made of one.
      verify: As for `torch_zip.read`.

    Raises:
      FileNotFoundError: There is no such file.
      OSError: It cannot be read.
      ValueError: It is damaged, would run something, or holds no ClimaX.
    """
    return read_arrays(path, verify=verify).arrays


def read_arrays(path: PathLike, *, verify: bool = True) -> Arrays:
    """Returns the arrays of a file on their way into a model; see `read`."""
    file = flat.read(path, verify=verify)
    prefixed = any(name.startswith(PREFIX) for name in file.arrays)
    found = Arrays(
        source=f"{file.path} ({file.format})",
        arrays={},
        original={},
        renamed=[],
        altered=[],
        dropped={},
        beside=file.beside,
        is_torch=file.format == "torch",
    )
    renamed = 0
    for name, array in file.arrays.items():
        if prefixed and not name.startswith(PREFIX):
            found.dropped[name] = (array.shape, "outside of the network")
            continue
        present = name.removeprefix(PREFIX).replace("channel", "var")
        renamed += "channel" in name
        if present in found.arrays:
            raise errors.DamagedError(f"{path}: {present} is given under two names")
        found.arrays[present] = array
        found.original[present] = name
    if renamed:
        found.renamed.append(f"{renamed} older names: channel_* is var_* now")
    if "var_embed" not in found.arrays or "pos_embed" not in found.arrays:
        raise errors.WrongFormatError(
            f"{path}: no ClimaX, for var_embed or pos_embed are lacking; it holds "
            f"{', '.join(list(file.arrays)[:4])} and {len(file.arrays)} arrays in all"
        )
    return found


def present_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays by the names that published ClimaX code has for them now."""
    return {
        name.removeprefix(PREFIX).replace("channel", "var"): array
        for name, array in arrays.items()
    }


def looks_like(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays by published name seem to be those of a ClimaX."""
    names = present_names(arrays)
    return all(
        name in names and names[name].ndim == 3
        for name in ("var_embed", "var_query", "pos_embed")
    )


def infer_config(
    arrays: Mapping[str, np.ndarray],
    *,
    variables: Sequence[str] = (),
    img_size: tuple[int, int] | None = None,
    num_heads: int = 16,
    out_variables: Sequence[str] = (),
) -> climax_config.ClimaXConfig:
    """Returns the architecture that published arrays belong to.

    Names of variables, the number of heads and the shape of the grid do not follow
    from the arrays; what is published is taken where nothing is given.

    Args:
      arrays: By published name, as `read` returns them.
      variables: Names of all variables, in the order of their embeddings. The 48
        published ones by default.
      img_size: Rows and columns of the grid; twice as wide as high by default.
      num_heads: Attention heads.
      out_variables: What a projection head predicts.

    Raises:
      ValueError: Something has to be given that was not, or arrays are lacking.
    """
    try:
        count, width = arrays["var_embed"].shape[-2:]
        parallel = STACKED_WEIGHTS in arrays
        kernel = arrays[STACKED_WEIGHTS if parallel else "token_embeds.0.proj.weight"]
        hidden = arrays["blocks.0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"no ClimaX: {error} is lacking") from error
    names = tuple(variables)
    if not names and count == len(climax_config.DEFAULT_VARIABLES):
        names = climax_config.DEFAULT_VARIABLES
    if len(names) != count:
        raise ValueError(
            f"the weights know {count} variables; give their {count} names in the "
            f"order of the embeddings, found {len(names)}"
        )
    patch = kernel.shape[-1]
    if img_size is None:
        rows, columns = positions.grid_of_tokens(arrays["pos_embed"].shape[-2])
        img_size = (rows * patch, columns * patch)
    blocks = {n.split(".")[1] for n in arrays if n.startswith("blocks.")}
    layers = {n.split(".")[1] for n in arrays if re.match(r"head\.\d", n)}
    projection = "time_pos_embed" in arrays and "head.weight" in arrays
    history = arrays["time_pos_embed"].shape[-2] if projection else 1
    return climax_config.ClimaXConfig(
        default_vars=names,
        img_size=img_size,
        patch_size=patch,
        embed_dim=width,
        depth=len(blocks),
        decoder_depth=2 if projection else max(len(layers) - 1, 0),
        num_heads=num_heads,
        mlp_ratio=hidden / width,
        parallel_patch_embed=parallel,
        head="projection" if projection else "grid",
        time_history=history,
        out_variables=tuple(out_variables) if projection else (),
    )
