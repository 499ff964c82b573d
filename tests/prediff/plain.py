"""The published networks over again, slowly and in float64, by published names.

Nothing of the package is used but patterns of cuboids, which have tests of their own.
One batch member at a time, except where the published code mixes them.
"""

import itertools
import math

import numpy as np
from scipy import special


class Weights:
    """Published arrays below a prefix."""

    def __init__(self, arrays, prefix=""):
        self._arrays = arrays
        self._prefix = prefix

    def __getitem__(self, name):
        return np.asarray(self._arrays[self._prefix + name], np.float64)

    def __contains__(self, name):
        return self._prefix + name in self._arrays

    def below(self, name):
        return Weights(self._arrays, f"{self._prefix}{name}.")

    def linear(self, name, x):
        y = x @ self[f"{name}.weight"].T
        return y + self[f"{name}.bias"] if f"{name}.bias" in self else y

    def norm(self, name, x, groups=None):
        """Layer norm over the last axis, or group norm over all but the channels."""
        if groups is None:
            centred = x - x.mean(-1, keepdims=True)
            y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        else:
            cut = x.reshape(-1, groups, x.shape[-1] // groups)
            centred = cut - cut.mean((0, 2), keepdims=True)
            spread = np.sqrt((centred**2).mean((0, 2), keepdims=True) + 1e-5)
            y = (centred / spread).reshape(x.shape)
        return y * self[f"{name}.weight"] + self[f"{name}.bias"]

    def convolution(self, name, x):
        """Of [..., channel] with zeros around, over as many axes as the kernel has."""
        kernel = self[f"{name}.weight"]
        size = kernel.shape[2:]
        lead = x.ndim - 1 - len(size)
        around = [(0, 0)] * lead + [(k // 2, k // 2) for k in size] + [(0, 0)]
        padded = np.pad(x, around)
        found = np.zeros((*x.shape[:-1], kernel.shape[0]))
        for place in np.ndindex(*size):
            window = tuple(
                slice(p, p + n) for p, n in zip(place, x.shape[lead:-1], strict=True)
            )
            part = padded[(slice(None),) * lead + window]
            found += part @ kernel[(slice(None), slice(None), *place)].T
        return found + self[f"{name}.bias"]


def silu(x):
    return x * special.expit(x)


ACTIVATIONS = {
    "gelu": lambda x: x * special.ndtr(x),
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "relu": lambda x: np.maximum(x, 0),
}


def softmax(scores, mask):
    scores = np.where(mask, scores, -1e18)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) * mask


def stretch(x, shape):
    for axis, length in enumerate(shape):
        old = x.shape[axis]
        x = np.take(x, [i * old // length for i in range(length)], axis)
    return x


def pad(x, added, kind):
    if not any(added):
        return x
    if kind == "nearest":
        return stretch(x, [n + more for n, more in zip(x.shape, added)])
    return np.pad(x, [*((0, more) for more in added), (0, 0)])


class Cells:
    """Where every point of padded and shifted data lies among cuboids."""

    def __init__(self, shape, cuboid, padding):
        size, shift = list(cuboid.size), list(cuboid.shift)
        for axis in range(3):
            if cuboid.strategy[axis] == "d":
                shift[axis] = 0
            if shape[axis] <= size[axis]:
                size[axis], shift[axis] = shape[axis], 0
        self.added = [-n % k for n, k in zip(shape, size)]
        self.shift = shift
        self.shape = [n + more for n, more in zip(shape, self.added)]
        counts = [n // k for n, k in zip(self.shape, size)]
        rows = []
        for place in itertools.product(*map(range, self.shape)):
            old = [(p + s) % n for p, s, n in zip(place, shift, self.shape)]
            wrapped = [p + s >= n for p, s, n in zip(place, shift, self.shape)]
            split = [
                divmod(p, k) if letter == "l" else divmod(p, count)[::-1]
                for p, k, count, letter in zip(place, size, counts, cuboid.strategy)
            ]
            number = np.ravel_multi_index([s[0] for s in split], counts)
            inner = np.ravel_multi_index([s[1] for s in split], size)
            real = all(p < n for p, n in zip(old, shape))
            rows.append((number, inner, np.ravel_multi_index(wrapped, (2,) * 3), real))
        self.number, self.inner, self.wrapped, self.real = map(np.array, zip(*rows))
        # Rank of each point in the order of cuboids.
        self.order = np.lexsort((self.inner, self.number))
        self.allowed = (self.number[:, None] == self.number) & (
            self.wrapped[:, None] == self.wrapped
        )
        if padding == "ignore":
            self.allowed &= self.real[:, None] & self.real
        spans = [2 * n - 1 for n in cuboid.size]
        at = np.stack(np.unravel_index(self.inner, cuboid.size), -1)
        apart = at[:, None] - at + np.array(cuboid.size) - 1
        self.bias_row = np.ravel_multi_index(np.moveaxis(apart, -1, 0), spans, "clip")


def attention(weights, config, cuboid, x, vectors):
    """Returns what points and vectors find."""
    heads, width = config.num_heads, x.shape[-1]
    shape = x.shape[:3]
    cells = Cells(shape, cuboid, config.padding_type)
    x = pad(weights.norm("norm", x), cells.added, config.padding_type)
    x = np.roll(x, [-s for s in cells.shift], (0, 1, 2)).reshape(-1, width)
    scale = (width // heads) ** -0.5

    def parts(name, values, count):
        found = weights.linear(name, values)
        return [
            part.reshape(len(values), heads, -1).swapaxes(0, 1)
            for part in np.split(found, count, -1)
        ]

    query, key, value = parts("qkv", x, 3)
    scores = scale * query @ key.swapaxes(1, 2)
    if config.use_relative_pos:
        table = weights["relative_position_bias_table"]
        scores = scores + np.moveaxis(table[cells.bias_row], -1, 0)
    mask = cells.allowed
    if vectors is not None:
        vectors = weights.norm("global_vec_norm", vectors)
        if config.separate_global_qkv:
            (outward,) = parts("l2g_q_net", x, 1)
            seen, told = parts("l2g_global_kv_net", vectors, 2)
            (asking,) = parts("g2l_global_q_net", vectors, 1)
            (shown,), (said,) = parts("g2l_k_net", x, 1), parts("g2l_v_net", x, 1)
            if config.use_global_self_attn:
                own = parts("g2g_global_qkv_net", vectors, 3)
        else:
            asking, seen, told = own = parts("global_qkv", vectors, 3)
            outward, shown, said = query, key, value
        more = scale * outward @ seen.swapaxes(1, 2)
        scores = np.concatenate([scores, more], -1)
        value = np.concatenate([value, told], 1)
        mask = np.pad(mask, ((0, 0), (0, len(vectors))), constant_values=True)
    found = (softmax(scores, mask) @ value).swapaxes(0, 1).reshape(-1, width)
    answer = None
    if vectors is not None:
        scores = scale * asking @ shown.swapaxes(1, 2)
        mask = np.ones(len(x), bool)
        if config.padding_type == "ignore":
            mask = cells.real.copy()
            if config.published_quirks:
                mask[cells.order] = cells.real
        if config.use_global_self_attn:
            more = scale * own[0] @ own[1].swapaxes(1, 2)
            scores = np.concatenate([scores, more], -1)
            said = np.concatenate([said, own[2]], 1)
            mask = np.pad(mask, (0, len(vectors)), constant_values=True)
        answer = (softmax(scores, mask) @ said).swapaxes(0, 1)
        answer = answer.reshape(len(vectors), -1)
    if config.self_attn_use_final_proj:
        found = weights.linear("proj", found)
        answer = None if answer is None else weights.linear("global_proj", answer)
    found = np.roll(found.reshape(*cells.shape, -1), cells.shift, (0, 1, 2))
    if config.padding_type == "nearest" and any(cells.added):
        return stretch(found, shape), answer
    return found[tuple(slice(n) for n in shape)], answer


def perceptron(weights, config, x):
    act = ACTIVATIONS[config.ffn_activation]
    inner = weights.norm("layer_norm", x)
    y = weights.linear("ffn_1", inner)
    if config.gated_ffn:
        y = act(weights.linear("ffn_1_gate", inner)) * y
    else:
        y = act(y)
    return x + weights.linear("ffn_2", y)


def block(weights, config, level, x, vectors):
    layers = config.cuboids(level)
    for k, cuboid in enumerate(layers):
        found, answer = attention(
            weights.below(f"attn_l.{k}"), config, cuboid, x, vectors
        )
        x = x + found
        vectors = None if vectors is None else vectors + answer
        if not config.use_inter_ffn and k < len(layers) - 1:
            continue
        number = k if config.use_inter_ffn else 0
        x = perceptron(weights.below(f"ffn_l.{number}"), config, x)
        if vectors is not None and config.use_global_vector_ffn:
            below = weights.below(f"global_ffn_l.{number}")
            vectors = perceptron(below, config, vectors)
    return x, vectors


def residual(weights, config, x, step=None):
    count = lambda width: 32 if width % 32 == 0 else width  # noqa: E731
    y = silu(weights.norm("in_layers.0", x, count(x.shape[-1])))
    y = weights.convolution("in_layers.2", y)
    width = y.shape[-1]
    if step is None:
        y = weights.norm("out_layers.0", y, count(width))
    else:
        moved = weights.linear("emb_layers.1", silu(step))
        if config.time_embed_use_scale_shift_norm:
            y = weights.norm("out_layers.0", y, count(width))
            y = y * (1 + moved[:width]) + moved[width:]
        else:
            y = weights.norm("out_layers.0", y + moved, count(width))
    y = weights.convolution("out_layers.3", silu(y))
    if "skip_connection.weight" in weights:
        x = weights.convolution("skip_connection", x)
    return x + y


def positions(weights, config, x):
    times, rows, columns = x.shape[:3]
    x = x + weights["T_embed.weight"][:times, None, None]
    if config.pos_embed_type == "t+hw":
        table = weights["HW_embed.weight"]
        wide = config.input_shape[2]
        return x + table.reshape(-1, wide, x.shape[-1])[:rows, :columns]
    x = x + weights["H_embed.weight"][:rows, None]
    return x + weights["W_embed.weight"][:columns]


def merge(weights, config, x):
    factor = config.factor
    x = pad(x, [-n % k for n, k in zip(x.shape, factor)], config.padding_type)
    parts = [
        x[tuple(slice(p, None, k) for p, k in zip(place, factor))]
        for place in np.ndindex(*factor)
    ]
    x = weights.norm("norm", np.concatenate(parts, -1))
    return weights.linear("reduction", x)


def step_vector(weights, config, t):
    width = config.units[0]
    half = width // 2
    angles = t * np.exp(-math.log(10000) * np.arange(half) / half)
    embedded = np.concatenate([np.cos(angles), np.sin(angles)])
    embedded = np.pad(embedded, (0, width % 2))
    hidden = silu(weights.linear("time_embed.layer.0", embedded))
    return weights.linear("time_embed.layer.2", hidden)


def down(weights, config, x, step):
    """Returns points, vectors, and the points of every level."""
    x = residual(weights.below("first_proj"), config, x)
    x = positions(weights.below("pos_embed"), config, x)
    vectors = weights["init_global_vectors"] if config.num_global_vectors else None
    passed = []
    for i, depth in enumerate(config.depth):
        if i > 0:
            x = merge(weights.below(f"downsample_layers.{i - 1}"), config, x)
            if config.hierarchical_pos_embed:
                name = f"down_hierarchical_pos_embed_l.{i - 1}"
                x = positions(weights.below(name), config, x)
            if vectors is not None:
                vectors = weights.linear(f"down_layer_global_proj.{i - 1}", vectors)
        for j in range(depth):
            x = residual(weights.below(f"down_time_embed_blocks.{i}"), config, x, step)
            name = f"down_self_blocks.{i}.{j}"
            x, vectors = block(weights.below(name), config, i, x, vectors)
        passed.append(x)
    return x, vectors, passed


def unet(arrays, config, noisy, t, context):
    """Returns the denoiser's prediction for a batch."""
    weights = Weights(arrays)
    found = []
    for a, b, number in zip(context, noisy, t):
        x = np.concatenate([a, b]).astype(np.float64)
        mark = np.zeros((*x.shape[:-1], 1))
        mark[: len(a)] = 1
        step = step_vector(weights, config, float(number))
        x, vectors, passed = down(weights, config, np.concatenate([x, mark], -1), step)
        for i in range(len(config.depth) - 1, -1, -1):
            if i < len(config.depth) - 1 and config.unet_res_connect:
                x = x + passed[i]
            for j in range(config.depth[i]):
                below = weights.below(f"up_time_embed_blocks.{i}")
                x = residual(below, config, x, step)
                below = weights.below(f"up_self_blocks.{i}.{j}")
                x, vectors = block(below, config, i, x, vectors)
            if i > 0:
                x = stretch(x, passed[i - 1].shape[:3])
                x = weights.convolution(f"upsample_layers.{i - 1}.conv", x)
                if config.hierarchical_pos_embed:
                    name = f"up_hierarchical_pos_embed_l.{i - 1}"
                    x = positions(weights.below(name), config, x)
                if vectors is not None:
                    name = f"up_layer_global_proj.{i - 1}"
                    vectors = weights.linear(name, vectors)
        found.append(weights.linear("final_proj", x[len(a) :]))
    return np.stack(found)


def pool(weights, config, x):
    """Returns the numbers that are read from a row of points."""
    x = silu(weights.norm("out.0", x, min(x.shape[-1], 32)))
    below = weights.below("out.2")
    x = np.concatenate([x.mean(0, keepdims=True), x]) + below["positional_embedding"].T
    heads = config.num_heads
    qkv = x @ below["qkv_proj.weight"][..., 0].T + below["qkv_proj.bias"]
    q, k, v = (
        part.reshape(len(x), heads, -1).swapaxes(0, 1) for part in np.split(qkv, 3, -1)
    )
    scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
    mixed = (softmax(scores, np.ones(len(x), bool)) @ v)[:, 0].reshape(-1)
    return mixed @ below["c_proj.weight"][..., 0].T + below["c_proj.bias"]


def alignment(arrays, config, noisy, t):
    """Returns what the alignment network reads from a batch."""
    weights = Weights(arrays)
    points, vectors = [], []
    for x, number in zip(noisy, t):
        step = step_vector(weights, config, float(number))
        x, g, _ = down(weights, config, x.astype(np.float64), step)
        points.append(x)
        vectors.append(np.zeros((0, x.shape[-1])) if g is None else g)
    width = points[0].shape[-1]
    if not config.readout_seq:
        rows = [x.reshape(-1, width) for x in points]
        return np.stack(
            [pool(weights, config, np.concatenate(row)) for row in zip(rows, vectors)]
        )
    frames = config.out_len or len(points[0])
    found = []
    for n, x in enumerate(points):
        for i, frame in enumerate(x[-frames:]):
            # The published code takes row n T + t of vectors in the order t N + n.
            other = (n * frames + i) % len(points) if config.published_quirks else n
            row = np.concatenate([frame.reshape(-1, width), vectors[other]])
            found.append(pool(weights, config, row))
    return np.stack(found).reshape(len(points), frames, -1)
