"""Samples for linear models, and their application in NumPy."""

import numpy as np

from weatherlib.baselines import linear_config, linear_fit, linear_layout

KINDS = (linear_config.LinearConfig, linear_config.MultiLinearConfig)


def fields(frames, known=None, static=None):
    """Returns fields without what is not given."""
    batch, _, rows, columns, _ = frames.shape
    if known is None:
        known = np.zeros((batch, 1, rows, columns, 0), np.float32)
    if static is None:
        static = np.zeros((batch, rows, columns, 0), np.float32)
    return linear_layout.HostFields(frames=frames, known=known, static=static)


def draw(samples, *, channels=2, extra=0, rows=2, columns=3, lengths=(3, 2), seed=0):
    """Returns frames and targets that depend on them, of `channels` variables."""
    rng = np.random.default_rng(seed)
    shape = (samples, lengths[0], rows, columns, channels + extra)
    frames = rng.standard_normal(shape)
    width = int(np.prod(shape[1:]))
    outputs = (lengths[1], rows, columns, channels)
    weights = rng.standard_normal((width, int(np.prod(outputs)))) / np.sqrt(width)
    targets = np.tanh(frames.reshape(samples, -1) @ weights).reshape(samples, *outputs)
    targets = targets + 0.2 * rng.standard_normal(targets.shape)
    scales = np.arange(1, channels + extra + 1)
    return 5 + 3 * frames * scales, -7 + targets * scales[:channels]


def batches(frames, targets, size, **others):
    """Yields batches of a size, the last one shorter."""
    for first in range(0, len(frames), size):
        part = slice(first, first + size)
        cut = {name: values[part] for name, values in others.items()}
        yield fields(frames[part], **cut), targets[part]


def fit(kind, frames, targets, *, size=7, others=None, options=None, **settings):
    """Returns a fit to samples in float64."""
    others = others or {}
    config = kind(
        input_length=frames.shape[1], output_length=targets.shape[1], **settings
    )
    names = tuple(f"v{i}" for i in range(frames.shape[-1]))
    channels = linear_layout.Channels(
        frames=names,
        **{key: tuple(f"{key}{i}" for i in range(v.shape[-1]))
           for key, v in others.items()},
    )  # fmt: skip
    given = {"samples": len(frames), "dtype": np.float64, **(options or {})}
    made = batches(frames, targets, size, **others)
    return linear_fit.fit(made, config, channels, **given)


def apply(found, frames, **others):
    """Returns predictions [batch, step, lat, lon, output] of a fit."""
    values = found.params["linear"]
    x = linear_layout.features(fields(frames, **others), np.concatenate)
    x = x.astype(np.float64)
    if "input_mean" in values:
        x = (x - values["input_mean"]) / values["input_scale"]
    if "basis" in values:
        x = x @ values["basis"]
    y = x @ values["w"] + values["b"]
    if "input_mean" in values:
        y = y * values["output_scale"] + values["output_mean"]
    grid = frames.shape[2:4]
    y = y.reshape(len(frames), found.config.output_length, -1, *grid)
    return y.transpose(0, 1, 3, 4, 2)


def ridge(x, y, alpha):
    """Returns weights and intercept by the normal equations of the textbook."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    gram = (x - x_mean).T @ (x - x_mean) + alpha * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, (x - x_mean).T @ (y - y_mean))
    return weights, y_mean - x_mean @ weights
