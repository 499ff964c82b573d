"""Published names of vision encoders and decoders, and the parameters they stand for.

Names are those after the prefix of a family (`vision_model.` of SigLIP, `vit.` of MAE):

| ours | DINOv2 | timm | SigLIP | MAE |
|---|---|---|---|---|
| `patch_embed` | `embeddings.patch_embeddings.projection` | `patch_embed.proj` | `embeddings.patch_embedding` | as DINOv2 |
| `class_token` | `embeddings.cls_token` | `cls_token` | | as DINOv2 |
| `mask_token` | `embeddings.mask_token` | | | |
| `register_tokens` | `embeddings.register_tokens` | `reg_token` | | |
| `positions` | `embeddings.position_embeddings` | `pos_embed` | `embeddings.position_embedding.weight` | as DINOv2 |
| `block_{i}` | `encoder.layer.{i}` | `blocks.{i}` | `encoder.layers.{i}` | `encoder.layer.{i}` |
| `norm1`, `norm2` | `norm1`, `norm2` | `norm1`, `norm2` | `layer_norm1`, `layer_norm2` | `layernorm_before`, `layernorm_after` |
| `attn/qkv` | `attention.attention.{query,key,value}` | `attn.qkv` | `self_attn.{q,k,v}_proj` | as DINOv2 |
| `attn/proj` | `attention.output.dense` | `attn.proj` | `self_attn.out_proj` | as DINOv2 |
| `gamma1`, `gamma2` | `layer_scale{1,2}.lambda1` | `ls{1,2}.gamma` | | |
| `mlp/fc1`, `mlp/fc2` | `mlp.fc{1,2}`, gated `mlp.weights_{in,out}` | `mlp.fc{1,2}` | `mlp.fc{1,2}` | `intermediate.dense`, `output.dense` |
| `norm` | `layernorm` | `norm` | `post_layernorm` | `layernorm` |
| `head` | | | `head.probe`, `.attention`, `.layernorm`, `.mlp` | |

Decoders have `decoder_embed`, `decoder_pos_embed`, `trainable_cls_token` or
`mask_token`, `decoder_layers.{i}` as the blocks of MAE, `decoder_norm` and
`decoder_pred`. Those that diffusers writes name attention `to_q`, `to_k`, `to_v` and
`to_out.0`, and leave `decoder_pos_embed` out.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from weatherlib.latent import shapes as latent_shapes
from weatherlib.latent.config import DECODER, ENCODER, DecoderConfig, EncoderConfig
from weatherlib.weights import name_map

__all__ = ["DecoderNaming", "decoder_map", "encoder_map", "encoder_prefix"]

DecoderNaming = Literal["published", "diffusers"]

_DINOV2 = {
    "patch_embed": "embeddings.patch_embeddings.projection",
    "class_token": "embeddings.cls_token",
    "mask_token": "embeddings.mask_token",
    "register_tokens": "embeddings.register_tokens",
    "positions": "embeddings.position_embeddings",
    "block": "encoder.layer.",
    "norm1": "norm1",
    "norm2": "norm2",
    "qkv": (
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
    ),
    "proj": "attention.output.dense",
    "gamma1": "layer_scale1.lambda1",
    "gamma2": "layer_scale2.lambda1",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "norm": "layernorm",
}
_TIMM = {
    **_DINOV2,
    "patch_embed": "patch_embed.proj",
    "class_token": "cls_token",
    "register_tokens": "reg_token",
    "positions": "pos_embed",
    "block": "blocks.",
    "qkv": ("attn.qkv",),
    "proj": "attn.proj",
    "gamma1": "ls1.gamma",
    "gamma2": "ls2.gamma",
    "norm": "norm",
}
_SIGLIP = {
    "patch_embed": "embeddings.patch_embedding",
    "positions": "embeddings.position_embedding.weight",
    "block": "encoder.layers.",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "proj": "self_attn.out_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "norm": "post_layernorm",
}
_MAE = {
    **_DINOV2,
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
}
_DECODER = {
    **_MAE,
    "embed": "decoder_embed",
    "class_token": "trainable_cls_token",
    "mask_token": "mask_token",
    "positions": "decoder_pos_embed",
    "block": "decoder_layers.",
    "norm": "decoder_norm",
    "prediction": "decoder_pred",
}
_DIFFUSERS = {
    **_DECODER,
    "qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
    "proj": "attention.to_out.0",
}
_LAYOUTS = {
    "dinov2": _DINOV2,
    "timm": _TIMM,
    "siglip": _SIGLIP,
    "siglip2": _SIGLIP,
    "mae": _MAE,
}

# Published tokens have an axis for the batch, most of them one for the sequence too.
_ONE_TOKEN = name_map.Transform(
    "a token",
    lambda array: array.reshape(array.shape[-1:]),
    lambda array, shape: array.reshape(shape),
)
_SEQUENCE = name_map.Transform(
    "tokens of one batch member",
    lambda array: array.reshape(array.shape[-2:]),
    lambda array, shape: array.reshape(shape),
)
_PATCH = name_map.Transform(
    "kernel of a patch",
    lambda array: array.reshape(array.shape[0], -1).T,
    lambda array, shape: array.T.reshape(shape),
)


def encoder_map(sizes: EncoderConfig) -> name_map.NameMap:
    """Returns the map between published names and parameters of an encoder."""
    names = dict(_LAYOUTS[sizes.layout])
    if sizes.use_swiglu_ffn and sizes.layout == "dinov2":
        names |= {"fc1": "mlp.weights_in", "fc2": "mlp.weights_out"}
    shapes = latent_shapes.encoder_shapes(sizes)
    rules = _Rules(ENCODER, names, shapes)
    rules.tokens("class_token", 3, _ONE_TOKEN)
    rules.tokens("mask_token", 2, _ONE_TOKEN)
    rules.tokens("register_tokens", 3, _SEQUENCE)
    axes = 2 if sizes.layout in ("siglip", "siglip2") else 3
    rules.tokens("positions", axes, _SEQUENCE)
    if sizes.layout == "siglip2":
        rules.linear("patch_embed")
    else:
        size, width = sizes.patch_size, sizes.hidden_size
        kernel = (width, sizes.num_channels, size, size)
        rules.linear("patch_embed", kernel, _PATCH)
    for i in range(sizes.num_hidden_layers):
        rules.block(i)
    rules.norm("norm")
    if sizes.pooling_head:
        rules.head()
    return name_map.NameMap(rules.found, shapes)


def decoder_map(
    sizes: DecoderConfig, naming: DecoderNaming = "published"
) -> name_map.NameMap:
    """Returns the map between published names and parameters of a decoder.

    That of diffusers has no positions, which follow from the sizes.
    """
    shapes = latent_shapes.decoder_shapes(sizes)
    if naming == "diffusers":
        shapes[DECODER].pop("positions")
    rules = _Rules(DECODER, _DIFFUSERS if naming == "diffusers" else _DECODER, shapes)
    rules.tokens("class_token", 3, _ONE_TOKEN)
    rules.tokens("mask_token", 3, _ONE_TOKEN)
    rules.tokens("positions", 3, _SEQUENCE)
    rules.linear("embed")
    for i in range(sizes.decoder_num_hidden_layers):
        rules.block(i)
    rules.norm("norm")
    rules.linear("prediction")
    return name_map.NameMap(rules.found, shapes)


class _Rules:
    """Collects the rules of a network."""

    def __init__(
        self,
        root: str,
        names: Mapping[str, str | Sequence[str]],
        shapes: Mapping[str, Mapping[str, tuple[int, ...]]],
    ) -> None:
        self.found: list[name_map.Rule] = []
        self._root = root
        self._names = names
        self._shapes = shapes

    def tokens(self, name: str, axes: int, transform: name_map.Transform) -> None:
        """Adds tokens, where there are some, which have `axes` axes in the file."""
        shape = self._shapes[self._root].get(name)
        if shape is not None:
            shape = (1,) * (axes - len(shape)) + shape
            source = str(self._names[name])
            self._add(source, shape, self._root, name, transform)

    def linear(
        self,
        name: str,
        shape: tuple[int, ...] = (),
        transform: name_map.Transform = name_map.TRANSPOSE,
    ) -> None:
        """Adds a linear layer of the root, whose matrix may be a kernel in the file."""
        module = f"{self._root}/{name}"
        self._matrix(str(self._names[name]), module, shape, transform)

    def norm(self, name: str, before: str = "", module: str = "") -> None:
        """Adds a norm of the root or of a module."""
        module = f"{module or self._root}/{name}"
        source = f"{before}{self._names[name]}"
        shape = self._shapes[module]["scale"]
        self._add(f"{source}.weight", shape, module, "scale")
        self._add(f"{source}.bias", shape, module, "offset")

    def block(self, number: int) -> None:
        """Adds a transformer block."""
        module = f"{self._root}/block_{number}"
        before = f"{self._names['block']}{number}."
        self.norm("norm1", before, module)
        self._attention(
            [f"{before}{name}" for name in self._names["qkv"]], f"{module}/attn/qkv"
        )
        self._matrix(f"{before}{self._names['proj']}", f"{module}/attn/proj")
        for name, shape in self._shapes.get(module, {}).items():
            self._add(f"{before}{self._names[name]}", shape, module, name)
        self.norm("norm2", before, module)
        for name in ("fc1", "fc2"):
            self._matrix(f"{before}{self._names[name]}", f"{module}/mlp/{name}")

    def head(self) -> None:
        """Adds the pooling head of SigLIP."""
        module = f"{self._root}/head"
        probe = (1, *self._shapes[module]["probe"])
        self._add("head.probe", probe, module, "probe", _SEQUENCE)
        # PyTorch's own attention has its parameters under other names.
        joint, shapes = "head.attention.in_proj_", self._shapes[f"{module}/attn/qkv"]
        place = f"{module}/attn/qkv"
        self._add(f"{joint}weight", shapes["w"][::-1], place, "w", name_map.TRANSPOSE)
        self._add(f"{joint}bias", shapes["b"], place, "b")
        self._matrix("head.attention.out_proj", f"{module}/attn/proj")
        shape = self._shapes[f"{module}/norm"]["scale"]
        self._add("head.layernorm.weight", shape, f"{module}/norm", "scale")
        self._add("head.layernorm.bias", shape, f"{module}/norm", "offset")
        for name in ("fc1", "fc2"):
            self._matrix(f"head.mlp.{name}", f"{module}/mlp/{name}")

    def _attention(self, sources: Sequence[str], module: str) -> None:
        """Adds queries, keys and values, apart in the file or side by side."""
        if len(sources) == 1:
            self._matrix(sources[0], module)
            return
        width = self._shapes[module]["w"][0]
        for i, source in enumerate(sources):
            part = slice(i * width, (i + 1) * width)
            self.found.append(
                name_map.Rule(
                    source=f"{source}.weight",
                    source_shape=(width, width),
                    module=module,
                    name="w",
                    transform=name_map.TRANSPOSE,
                    index=(slice(None), part),
                )
            )
            self.found.append(
                name_map.Rule(
                    source=f"{source}.bias",
                    source_shape=(width,),
                    module=module,
                    name="b",
                    index=(part,),
                )
            )

    def _matrix(
        self,
        source: str,
        module: str,
        shape: tuple[int, ...] = (),
        transform: name_map.Transform = name_map.TRANSPOSE,
    ) -> None:
        held = self._shapes[module]
        shape = shape or held["w"][::-1]
        self._add(f"{source}.weight", shape, module, "w", transform)
        self._add(f"{source}.bias", held["b"], module, "b")

    def _add(
        self,
        source: str,
        shape: tuple[int, ...],
        module: str,
        name: str,
        transform: name_map.Transform = name_map.IDENTITY,
    ) -> None:
        self.found.append(
            name_map.Rule(
                source=source,
                source_shape=tuple(shape),
                module=module,
                name=name,
                transform=transform,
            )
        )


def encoder_prefix(sizes: EncoderConfig) -> str:
    """Returns what published names of an encoder begin with."""
    prefixes = {"siglip": "vision_model.", "siglip2": "vision_model.", "mae": "vit."}
    return prefixes.get(sizes.layout, "")
