"""Published names of PreDiff's networks, and the parameters they stand for.

Every published array has one rule, in the order of published files. `{n}` is a number
and R is `earthformer_unet` or `alignment`:

| published | module | parameters |
|---|---|---|
| `init_global_vectors` | R | `global_vectors` |
| `first_proj.*`, `{down,up}_time_embed_blocks.{i}.*` | R`/first_proj`, R`/{down,up}_{i}/time` | `norm_in`, `conv_in`, `embed`, `norm_out`, `conv_out`, `skip` |
| `pos_embed.{T,H,W,HW}_embed` | R`/positions` | `time`, `row`, `column`, `place` |
| `time_embed.layer.{0,2}` | R`/time_embed` | `linear_0`, `linear_1` |
| `downsample_layers.{i}`, `upsample_layers.{i}` | R`/down_merge_{i}`, R`/up_sample_{i}` | `norm`, `reduction`; `conv` |
| `{down,up}_layer_global_proj.{i}` | R`/{down,up}_global_{i}` | `w`, `b` |
| `{down,up}_hierarchical_pos_embed_l.{i}` | R`/{down,up}_positions_{i}` | as `pos_embed` |
| `{down,up}_self_blocks.{i}.{j}.ffn_l.{k}` | R`/{down,up}_{i}/block_{j}/ffn_{k}` | `linear_0`, `gate`, `linear_1`, `norm` |
| `...global_ffn_l.{k}` | `.../global_ffn_{k}` | likewise |
| `...attn_l.{k}` | `.../attn_{k}` | `relative_bias`, `qkv`, `proj`, `norm`, and of global vectors |
| `final_proj` | R`/final_proj` | `w`, `b` |
| `out.{0,2}` | R`/out_norm`, R`/pool` | `qkv`, `proj`, `positions` |

Linear layers are [in, out] here and [out, in] there; kernels are [..., in, out] and
[out, in, ...]. `relative_position_index` follows from the sizes and is no parameter.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from weatherlib.geometry import cuboids
from weatherlib.geometry.cuboid_patterns import Cuboid, Triple
from weatherlib.prediff import config as prediff_config
from weatherlib.weights import name_map

__all__ = ["Config", "index_buffers", "map_of", "source_order"]

Config = prediff_config.EarthformerUNetConfig | prediff_config.AlignmentConfig

_POINTWISE = name_map.Transform(
    "kernel of one point",
    lambda array: array.reshape(array.shape[:2]).T,
    lambda array, shape: array.T.reshape(shape),
)
_INDEX = "relative_position_index"


def map_of(sizes: Config) -> name_map.NameMap:
    """Returns the map between published names and parameters of a network."""
    names = _Names(sizes)
    return name_map.NameMap(names.rules, names.shapes)


def index_buffers(sizes: Config) -> dict[str, np.ndarray]:
    """Returns the arrays of published files that are no parameters, by name."""
    return dict(_Names(sizes).buffers)


def source_order(sizes: Config) -> tuple[str, ...]:
    """Returns all published names in the order of published files."""
    return tuple(_Names(sizes).order)


class _Names:
    """Collects rules, in the order of published files."""

    def __init__(self, sizes: Config) -> None:
        self.rules: list[name_map.Rule] = []
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        self.buffers: dict[str, np.ndarray] = {}
        self.order: list[str] = []
        self._sizes = sizes
        self._is_unet = isinstance(sizes, prediff_config.EarthformerUNetConfig)
        unet, half = prediff_config.EARTHFORMER_UNET, prediff_config.ALIGNMENT
        self._root = unet if self._is_unet else half
        self._add()

    def _add(self) -> None:
        sizes, root = self._sizes, self._root
        width = sizes.units[0]
        if sizes.num_global_vectors:
            shape = (sizes.num_global_vectors, sizes.global_dim_ratio * width)
            self._put("init_global_vectors", root, "global_vectors", shape)
        given = sizes.input_shape[-1] + self._is_unet
        self._residual("first_proj", f"{root}/first_proj", given, width, False)
        self._positions("pos_embed", f"{root}/positions", sizes.levels[0], width)
        channels = sizes.time_channels
        self._linear(
            "time_embed.layer.0", f"{root}/time_embed/linear_0", width, channels
        )
        self._linear(
            "time_embed.layer.2", f"{root}/time_embed/linear_1", channels, channels
        )
        self._between_levels()
        ways = ("down", "up") if self._is_unet else ("down",)
        for way in ways:
            for level in range(len(sizes.depth)):
                for block in range(sizes.depth[level]):
                    self._block(way, level, block)
        for way in ways:
            for level, width in enumerate(sizes.units):
                source = f"{way}_time_embed_blocks.{level}"
                self._residual(source, f"{root}/{way}_{level}/time", width, width, True)
        if self._is_unet:
            self._linear("final_proj", f"{root}/final_proj", sizes.units[0], given - 1)
        else:
            self._readout()

    def _between_levels(self) -> None:
        sizes, root = self._sizes, self._root
        units, count = sizes.units, len(sizes.depth) - 1
        ways = ("down", "up") if self._is_unet else ("down",)
        for way in ways:
            for i in range(count):
                self._resampling(way, i)
            for i in range(count if sizes.num_global_vectors else 0):
                pair = [sizes.global_dim_ratio * width for width in units[i : i + 2]]
                inputs, outputs = pair if way == "down" else pair[::-1]
                source = f"{way}_layer_global_proj.{i}"
                self._linear(source, f"{root}/{way}_global_{i}", inputs, outputs)
        for way in ways if sizes.hierarchical_pos_embed else ():
            for i in range(count):
                width = units[i + 1] if way == "down" else units[i]
                source = f"{way}_hierarchical_pos_embed_l.{i}"
                module = f"{root}/{way}_positions_{i}"
                self._positions(source, module, sizes.levels[i], width)

    def _resampling(self, way: str, i: int) -> None:
        sizes, root = self._sizes, self._root
        coarse, fine = sizes.units[i + 1], sizes.units[i]
        if way == "down":
            joined = math.prod(sizes.factor) * fine
            module, source = f"{root}/down_merge_{i}", f"downsample_layers.{i}"
            self._linear(
                f"{source}.reduction", f"{module}/reduction", joined, coarse, bias=False
            )
            self._norm(f"{source}.norm", f"{module}/norm", joined)
        elif isinstance(sizes, prediff_config.EarthformerUNetConfig):
            kernel = (sizes.upsample_kernel_size,) * 2
            module, source = f"{root}/up_sample_{i}/conv", f"upsample_layers.{i}.conv"
            self._convolution(source, module, kernel, coarse, fine)

    def _readout(self) -> None:
        sizes, root = self._sizes, self._root
        if not isinstance(sizes, prediff_config.AlignmentConfig):
            return
        width = sizes.units[-1]
        self._norm("out.0", f"{root}/out_norm", width)
        shape = sizes.levels[-1]
        points = math.prod(shape[1:] if sizes.readout_seq else shape)
        module = f"{root}/pool"
        self._put(
            "out.2.positional_embedding",
            module,
            "positions",
            (width, points + sizes.num_global_vectors + 1),
            name_map.TRANSPOSE,
        )
        outputs = sizes.out_channels
        self._pointwise("out.2.qkv_proj", f"{module}/qkv", 1, width, 3 * width)
        self._pointwise("out.2.c_proj", f"{module}/proj", 1, width, outputs)

    def _block(self, way: str, level: int, block: int) -> None:
        sizes = self._sizes
        source = f"{way}_self_blocks.{level}.{block}"
        module = f"{self._root}/{way}_{level}/block_{block}"
        width = sizes.units[level]
        layers = sizes.cuboids(level)
        kinds = [("ffn", width)]
        if sizes.num_global_vectors and sizes.use_global_vector_ffn:
            kinds.append(("global_ffn", sizes.global_dim_ratio * width))
        for kind, channels in kinds:
            for k in range(len(layers) if sizes.use_inter_ffn else 1):
                self._perceptron(
                    f"{source}.{kind}_l.{k}", f"{module}/{kind}_{k}", channels
                )
        for k, cuboid in enumerate(layers):
            self._attention(f"{source}.attn_l.{k}", f"{module}/attn_{k}", cuboid, width)

    def _perceptron(self, source: str, module: str, width: int) -> None:
        hidden = 4 * width
        self._linear(f"{source}.ffn_1", f"{module}/linear_0", width, hidden)
        if self._sizes.gated_ffn:
            self._linear(f"{source}.ffn_1_gate", f"{module}/gate", width, hidden)
        self._linear(f"{source}.ffn_2", f"{module}/linear_1", hidden, width)
        self._norm(f"{source}.layer_norm", f"{module}/norm", width)

    def _attention(self, source: str, module: str, cuboid: Cuboid, width: int) -> None:
        sizes = self._sizes
        if sizes.use_relative_pos:
            rows = math.prod(2 * n - 1 for n in cuboid.size)
            shape = (rows, sizes.num_heads)
            table = f"{source}.relative_position_bias_table"
            self._put(table, module, "relative_bias", shape)
            name = f"{source}.{_INDEX}"
            index = cuboids.relative_position_index(cuboid.size)
            self.buffers[name] = index.astype(np.int64)
            self.order.append(name)
        vectors = sizes.global_dim_ratio * width
        layers = [("qkv", "qkv", width, 3 * width)]
        if sizes.num_global_vectors and sizes.separate_global_qkv:
            layers += [
                ("l2g_q_net", "l2g_query", width, width),
                ("l2g_global_kv_net", "l2g_key_value", vectors, 2 * width),
                ("g2l_global_q_net", "g2l_query", vectors, width),
                ("g2l_k_net", "g2l_key", width, width),
                ("g2l_v_net", "g2l_value", width, vectors),
            ]
            if sizes.use_global_self_attn:
                layers.append(("g2g_global_qkv_net", "g2g_qkv", vectors, 3 * vectors))
        elif sizes.num_global_vectors:
            layers.append(("global_qkv", "global_qkv", width, 3 * width))
        for old, new, inputs, outputs in layers:
            self._linear(
                f"{source}.{old}", f"{module}/{new}", inputs, outputs, bias=False
            )
        kinds = [("", "", width)]
        if sizes.num_global_vectors:
            kinds.append(("global_", "global_vec_", vectors))
        if sizes.self_attn_use_final_proj:
            for kind, _, channels in kinds:
                name = f"{kind}proj"
                self._linear(f"{source}.{name}", f"{module}/{name}", channels, channels)
        for kind, old, channels in kinds:
            self._norm(f"{source}.{old}norm", f"{module}/{kind}norm", channels)

    def _residual(
        self, source: str, module: str, inputs: int, outputs: int, embedded: bool
    ) -> None:
        sizes, cube = self._sizes, (3, 3, 3)
        self._norm(f"{source}.in_layers.0", f"{module}/norm_in", inputs)
        self._convolution(
            f"{source}.in_layers.2", f"{module}/conv_in", cube, inputs, outputs
        )
        if embedded:
            width = outputs * (1 + sizes.time_embed_use_scale_shift_norm)
            self._linear(
                f"{source}.emb_layers.1", f"{module}/embed", sizes.time_channels, width
            )
        self._norm(f"{source}.out_layers.0", f"{module}/norm_out", outputs)
        self._convolution(
            f"{source}.out_layers.3", f"{module}/conv_out", cube, outputs, outputs
        )
        if inputs != outputs:
            self._pointwise(
                f"{source}.skip_connection", f"{module}/skip", 3, inputs, outputs
            )

    def _positions(self, source: str, module: str, shape: Triple, width: int) -> None:
        times, rows, columns = shape
        tables = [("T", "time", times), ("H", "row", rows), ("W", "column", columns)]
        if self._sizes.pos_embed_type == "t+hw":
            tables[1:] = [("HW", "place", rows * columns)]
        for letter, name, length in tables:
            self._put(f"{source}.{letter}_embed.weight", module, name, (length, width))

    def _norm(self, source: str, module: str, width: int) -> None:
        self._put(f"{source}.weight", module, "scale", (width,))
        self._put(f"{source}.bias", module, "offset", (width,))

    def _linear(
        self, source: str, module: str, inputs: int, outputs: int, *, bias: bool = True
    ) -> None:
        shape = (outputs, inputs)
        self._put(f"{source}.weight", module, "w", shape, name_map.TRANSPOSE)
        if bias:
            self._put(f"{source}.bias", module, "b", (outputs,))

    def _convolution(
        self,
        source: str,
        module: str,
        kernel: tuple[int, ...],
        inputs: int,
        outputs: int,
    ) -> None:
        shape = (outputs, inputs, *kernel)
        transform = name_map.convolution(len(kernel))
        self._put(f"{source}.weight", module, "w", shape, transform)
        self._put(f"{source}.bias", module, "b", (outputs,))

    def _pointwise(
        self, source: str, module: str, axes: int, inputs: int, outputs: int
    ) -> None:
        shape = (outputs, inputs, *[1] * axes)
        self._put(f"{source}.weight", module, "w", shape, _POINTWISE)
        self._put(f"{source}.bias", module, "b", (outputs,))

    def _put(
        self,
        source: str,
        module: str,
        name: str,
        shape: Sequence[int],
        transform: name_map.Transform = name_map.IDENTITY,
    ) -> None:
        shape = tuple(shape)
        outline = np.broadcast_to(np.zeros((), np.bool_), shape)
        target = transform.forward(outline).shape
        self.shapes.setdefault(module, {})[name] = target
        self.order.append(source)
        self.rules.append(
            name_map.Rule(
                source=source,
                source_shape=shape,
                module=module,
                name=name,
                transform=transform,
            )
        )
