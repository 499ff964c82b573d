"""Draws the pictures of docs/explanation/nowcasting.md, on made-up rain.

    python scripts/draw_nowcasting.py [--output docs/images]

The denoiser is not a trained network but the exact one of a bank of futures: the last
frame moved on by a motion, and grown or weakened by a factor, that are not known
exactly. So pictures show what diffusion, its sampler and its guidance do, and not how
well a network has learnt. Takes a minute on one core; the same numbers come out every
time.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from weatherlib import data, diffusion, plotting
from weatherlib.data import radar_sequences
from weatherlib.diffusion import forward, guidance, samplers, sampling
from weatherlib.evaluation import extrapolation, nowcast_references, spectra

_SIDE, _INPUTS, _LEADS = 64, 7, 6
_FUTURES, _DRAWN = 512, 96
_SCALE = 400.0
_INK, _BLUE, _RED = "black", "#1f5fa8", "#c0392b"

_schedule = diffusion.make_schedule(diffusion.PREDIFF.schedule)
_sampler = samplers.dpm_solver(_schedule, 20)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels of context and truth, [time, row, column]."""
    series = data.synthetic_radar(
        frames=30, rows=_SIDE, columns=_SIDE, seed=11, cells=14.0
    )
    frames = series["vil"].values[12 : 12 + _INPUTS + _LEADS]
    return frames[:_INPUTS], frames[_INPUTS:]


def futures(context: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns frames that may follow half an hour later, [future, row, column].

    Motion and intensity differ from those that the context suggests.
    """
    rng = np.random.default_rng(seed)
    flow = extrapolation.find_motion(context)
    found = []
    for _ in range(_FUTURES):
        wrong = rng.normal(0, 0.9, (2, 1, 1))
        moved = extrapolation.advect(context[-1], flow + wrong, _LEADS)[-1]
        found.append(np.clip(moved * np.exp(rng.normal(0, 0.25)), 0, 254))
    return np.stack(found)


def make_denoiser(bank: np.ndarray) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the best denoiser there is where a field of the bank is the truth."""
    known = jnp.asarray(radar_sequences.to_unit(bank)).reshape(len(bank), -1)

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        kept = forward.lookup(_schedule.alphas_cumprod, t, x)
        share = kept.reshape(-1, 1)
        # The squared distance, without what all of the bank have in common.
        near = 2 * jnp.sqrt(share) * (x.reshape(len(x), -1) @ known.T)
        near = near - share * jnp.sum(known**2, axis=1)
        x0 = jax.nn.softmax(near / (2 * (1 - share)), axis=1) @ known
        x0 = x0.reshape(x.shape)
        return forward.to_noise(_schedule, x0, x, t, "x0")

    return denoise


def off_target(x0: jax.Array, t: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns how far the mean intensity of each field is from what is wanted."""
    del t
    return _SCALE * (x0.mean((1, 2, 3)) - wanted) ** 2 / 1e-2


def draw_denoising(bank: np.ndarray) -> matplotlib.figure.Figure:
    """Returns the way of three members from noise to a field."""
    keep = (0, 8, 12, 15, 17, 20)
    start = sampling.first_noise(jax.random.key(2), (3, _SIDE, _SIDE, 1))
    draw = jax.jit(
        lambda x: sampling.sample(_sampler, make_denoiser(bank), x, keep=keep).kept
    )
    kept = np.asarray(draw(start))[..., 0]
    figure = matplotlib.figure.Figure(figsize=(8.4, 4.4), layout="constrained")
    panels = figure.subplots(3, len(keep))
    colormap, norm = plotting.vil_colormap()
    for row in range(3):
        for column, step in enumerate(keep):
            axes = panels[row, column]
            axes.set(xticks=[], yticks=[])
            pixels = kept[column, row] * 255
            axes.imshow(pixels, cmap=colormap, norm=norm, interpolation="nearest")
            if row == 0:
                axes.set_title(f"after {step} steps" if step else "noise", fontsize=9)
        panels[row, 0].set_ylabel(f"member {row + 1}", fontsize=9)
    return figure


def draw_members(bank: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """Returns fields that were drawn, in pixels, and guided to mean intensities."""
    start = sampling.first_noise(jax.random.key(5), (_DRAWN, _SIDE, _SIDE, 1))
    known = None
    if wanted is not None:
        known = guidance.Guidance(
            energy=off_target, target=jnp.asarray(wanted), on="denoised",
            strength="variance",
        )  # fmt: skip
    draw = jax.jit(
        lambda x, known: sampling.sample(
            _sampler, make_denoiser(bank), x, guidance=known
        )
    )
    samples = draw(start, known)
    sampling.check(samples, _sampler)
    return np.asarray(samples.x)[..., 0] * 255


def draw_blur(members: np.ndarray) -> matplotlib.figure.Figure:
    """Returns members, their mean, and the power of both by wavelength."""
    figure = matplotlib.figure.Figure(figsize=(8.4, 3.0), layout="constrained")
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    colormap, norm = plotting.vil_colormap()
    shown = {
        "one member": members[0],
        "another": members[1],
        f"mean of {len(members)}": members.mean(0),
    }
    for axes, (title, pixels) in zip(panels, shown.items()):
        axes.imshow(pixels, cmap=colormap, norm=norm, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9)
    length = _SIDE / spectra.radial_wavenumbers(_SIDE, _SIDE)
    single = spectra.radial_power(members).mean(0)
    blurred = spectra.radial_power(members.mean(0))
    panels[3].loglog(length, single, color=_BLUE, label="members")
    panels[3].loglog(length, blurred, color=_RED, linestyle=":", label="their mean")
    panels[3].invert_xaxis()
    panels[3].set_xticks([64, 32, 16, 8, 4, 2], ["64", "32", "16", "8", "4", "2"])
    panels[3].minorticks_off()
    panels[3].set_xlabel("wavelength (km)", fontsize=8)
    panels[3].set_ylabel("power (pixels²)", fontsize=8)
    panels[3].tick_params(labelsize=7)
    panels[3].legend(frameon=False, fontsize=8)
    return figure


def draw_guidance(bank: np.ndarray) -> matplotlib.figure.Figure:
    """Returns how guidance moves the mean intensity of members."""
    free = draw_members(bank).mean((1, 2))
    low, high = np.quantile(free, (0.1, 0.9))
    figure = matplotlib.figure.Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(free.min() * 0.9, free.max() * 1.1, 30).tolist()
    axes.hist(free, bins, color=_INK, alpha=0.35, label="not guided")
    for value, color in ((low, _BLUE), (high, _RED)):
        wanted = np.full(_DRAWN, value / 255, np.float32)
        guided = draw_members(bank, wanted).mean((1, 2))
        label = f"guided to {value:.1f}"
        axes.hist(guided, bins, color=color, alpha=0.55, label=label)
        axes.axvline(value, color=color, linewidth=1.2)
    axes.set_xlabel("mean intensity of a member (pixels)", fontsize=9)
    axes.set_ylabel("members", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Writes all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("docs/images")
    )
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    context, truth = scene()
    references = {
        "persistence": nowcast_references.persistence(context[None], _LEADS)[0],
        "extrapolation": nowcast_references.Extrapolation()(context[None], _LEADS)[0],
    }
    bank = futures(context)
    pictures = {
        "nowcasting_scene": plotting.draw_nowcast(context, truth, references),
        "nowcasting_denoising": draw_denoising(bank),
        "nowcasting_blur": draw_blur(draw_members(bank)),
        "nowcasting_guidance": draw_guidance(bank),
    }
    for name, figure in pictures.items():
        print(plotting.save_figure(figure, folder / f"{name}.png", dpi=90))


if __name__ == "__main__":
    main()
