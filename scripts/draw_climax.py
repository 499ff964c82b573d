"""Draws how data flow through ClimaX, with the shapes that the network itself has.

    python scripts/draw_climax.py [--config 5.625deg] [--output docs/images/climax.png]

The network is traced without computing anything, and each of its modules is asked what
it takes and returns. The shapes are printed too.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.patches
import numpy as np

from weatherlib import climax
from weatherlib.climax import network

_INK, _GREY = "#22313f", "#6b7a88"
# Outline and filling: data, what is folded into parameters, attention, head.
_DATA, _FOLD, _MIX, _HEAD = (
    ("#2a6f97", "#e3eff6"),
    ("#8a6d1f", "#f8f0d8"),
    ("#3c7a4e", "#e4f2e7"),
    ("#9c4a3c", "#f9e6e1"),
)
_STEPS = (
    ("fields", "Fields", "normalised state,\nV variables", _DATA),
    ("patches", "Patches", "{p} x {p} points,\nL places", _DATA),
    ("aggregated", "Variable\naggregation", "a learned query\nattends over V", _FOLD),
    ("embedded", "Position and\nlead time", "added to\neach token", _DATA),
    ("encoding", "{depth} transformer\nblocks", "attention over\nall places", _MIX),
    ("head", "Head", "{layers} layers with\nGELU, one linear", _HEAD),
    ("predictions", "Forecast", "V' variables\nat the lead time", _DATA),
)

_NAMES = {
    "fields": "B T V H W",
    "patches": "B L V p²",
    "aggregated": "B T L D",
    "embedded": "B L D",
    "encoding": "B L D",
    "head": "B L p² V'",
    "predictions": "B V' H W",
}

Shapes = dict[str, tuple[int, ...]]


def read_shapes(sizes: climax.ClimaXConfig, batch: int = 1) -> Shapes:
    """Returns the shape of each stage of the network; nothing is computed.

    Args:
      sizes: With the grid head. All of its variables go in and come out.
      batch: States at a time.
    """
    count = len(sizes.default_vars)
    found: Shapes = {"fields": (batch, sizes.time_history, count, *sizes.img_size)}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        key = (context.module.module_name.split("/")[-1], context.method_name)
        if key == ("token_embed", "weights"):
            found["token_embed"] = result.w.shape
        elif key == ("var_agg", "__call__"):
            found["patches"] = args[0].shape
            found["aggregation_weights"] = result.weights.shape
        elif key == ("block_0", "__call__"):
            found["embedded"] = args[0].shape
        elif key == ("head", "__call__"):
            found["head"] = result.shape
        return result

    def run(fields: jax.Array, hours: jax.Array) -> network.Output:
        every = tuple(range(count))
        with hk.intercept_methods(note):
            return network.ClimaXNetwork(sizes)(fields, hours, every, every)

    output, params = jax.eval_shape(
        lambda key, *data: _outputs(run, key, *data),
        jax.random.PRNGKey(0),
        jax.ShapeDtypeStruct(found["fields"], jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.float32),
    )
    found["aggregated"] = output.aggregated.shape
    found["encoding"] = output.encoding.shape
    found["predictions"] = output.fields.shape
    found["parameters"] = (sum(int(np.prod(p.shape)) for p in jax.tree.leaves(params)),)
    return found


def _outputs(run: Any, key: Any, *data: Any) -> tuple[Any, Any]:
    transformed = hk.transform(run)
    params = transformed.init(key, *data)
    return transformed.apply(params, key, *data), params


def draw(sizes: climax.ClimaXConfig, shapes: Shapes) -> matplotlib.figure.Figure:
    """Returns the picture."""
    figure = matplotlib.figure.Figure(figsize=(11.4, 3.6), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 114)
    axes.set_ylim(1.6, 37.6)
    axes.axis("off")
    words = {
        "p": sizes.patch_size,
        "depth": sizes.depth,
        "layers": sizes.decoder_depth,
    }
    step, width = 15.9, 13.2
    for place, (key, title, text, colours) in enumerate(_STEPS):
        left = 2.4 + place * step
        _box(axes, left, width, colours, title.format(**words), text.format(**words))
        axes.text(
            left + width / 2, 10.6, _dims(shapes[key]), ha="center", va="center",
            size=8.6, color=_INK, family="monospace",
        )  # fmt: skip
        axes.text(
            left + width / 2, 8.0, _NAMES[key], ha="center", va="center", size=8.2,
            color=_GREY,
        )  # fmt: skip
        if place:
            axes.annotate(
                "", (left - 0.1, 20), (left - step + width + 0.1, 20),
                arrowprops={"arrowstyle": "-|>", "color": _GREY, "lw": 1.4},
            )  # fmt: skip
    _sheets(axes, 2.4 + width / 2, sizes, "#2a6f97")
    _sheets(axes, 2.4 + 6 * step + width / 2, sizes, "#9c4a3c")
    count, pixels, channels = shapes["token_embed"]
    notes = (
        (1.5, f"patch embedding of each variable\n{count} x {pixels} x {channels}, "
         "folded into the aggregation"),
        (3.0, "hours / 100 through a linear layer"),
    )  # fmt: skip
    for place, text in notes:
        axes.text(
            2.4 + place * step + width / 2, 31.6, text, ha="center", va="center",
            size=8.2, color=_GREY, style="italic",
        )  # fmt: skip
        axes.plot(
            [2.4 + place * step + width / 2] * 2, [28.0, 30.0],
            color=_GREY, lw=0.8, ls=":",
        )  # fmt: skip
    (total,) = shapes["parameters"]
    rows, columns = sizes.img_size
    axes.text(
        57, 3.6,
        f"{rows} x {columns} grid, patch {sizes.patch_size}, D = {sizes.embed_dim}, "
        f"{sizes.num_heads} heads: {total / 1e6:.1f} million parameters. "
        "Shapes read off the network for one state.",
        ha="center", size=8.6, color=_GREY,
    )  # fmt: skip
    return figure


def _dims(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _box(
    axes: Any, left: float, width: float, colours: Any, title: str, text: str
) -> None:
    edge, face = colours
    axes.add_patch(
        matplotlib.patches.FancyBboxPatch(
            (left, 13), width, 14, boxstyle="round,pad=0,rounding_size=1.4",
            edgecolor=edge, facecolor=face, linewidth=1.4,
        )
    )  # fmt: skip
    middle = left + width / 2
    axes.text(middle, 22.6, title, ha="center", va="center", size=10.4,
              color=edge, weight="bold", linespacing=1.1)  # fmt: skip
    axes.text(middle, 16.6, text, ha="center", va="center", size=8.4, color=_INK,
              linespacing=1.25)  # fmt: skip


def _sheets(axes: Any, middle: float, sizes: climax.ClimaXConfig, colour: str) -> None:
    """Draws some fields behind each other, the first cut into patches."""
    wide, high = 8.0, 4.4
    for back in (2, 1, 0):
        left, low = middle - wide / 2 - 0.8 + 0.8 * back, 29.2 + 0.8 * back
        axes.add_patch(
            matplotlib.patches.Rectangle(
                (left, low), wide, high, facecolor="white", edgecolor=colour, lw=1.0
            )
        )
    left, low = middle - wide / 2 - 0.8, 29.2
    for column in range(1, 8):
        axes.plot([left + column * wide / 8] * 2, [low, low + high], color=colour,
                  lw=0.5, alpha=0.6)  # fmt: skip
    for row in range(1, 4):
        axes.plot([left, left + wide], [low + row * high / 4] * 2, color=colour,
                  lw=0.5, alpha=0.6)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Prints the shapes and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", choices=climax.PUBLISHED_CONFIGS, default="5.625deg"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("docs/images/climax.png")
    )
    options = parser.parse_args(arguments)
    sizes = climax.PUBLISHED_CONFIGS[options.config]
    shapes = read_shapes(sizes)
    for name, shape in shapes.items():
        print(f"{name:<20} {_dims(shape)}")
    draw(sizes, shapes).savefig(options.output)


if __name__ == "__main__":
    main()
