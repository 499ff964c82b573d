"""Names and shapes of parameters of vision encoders and decoders, without JAX."""

from __future__ import annotations

from weatherlib.latent.config import DECODER, ENCODER, DecoderConfig, EncoderConfig

__all__ = ["decoder_shapes", "encoder_shapes"]

Shapes = dict[str, dict[str, tuple[int, ...]]]


def encoder_shapes(sizes: EncoderConfig) -> Shapes:
    """Returns Haiku module path to parameter name to shape of an encoder.

    `vision_encoder` holds `class_token`, `register_tokens`, `mask_token` and
    `positions`, as far as the layout has them; below it lie `patch_embed`, `block_I`
    with `norm1`, `attn/qkv`, `attn/proj`, `norm2`, `mlp/fc1` and `mlp/fc2`, `norm`,
    and `head` with a `probe`, `attn`, `norm` and `mlp`. Linear layers have `w` [input,
    output], norms `scale` and `offset`, blocks of DINOv2 factors `gamma1` and `gamma2`.
    """
    width, hidden = sizes.hidden_size, sizes.intermediate_size
    places = sizes.position_grid**2
    own: dict[str, tuple[int, ...]] = {}
    if sizes.has_class_token:
        own["class_token"] = (width,)
        places += sizes.class_position
    if sizes.use_mask_token:
        own["mask_token"] = (width,)
    if sizes.num_register_tokens:
        own["register_tokens"] = (sizes.num_register_tokens, width)
    own["positions"] = (places, width)
    shapes: Shapes = {ENCODER: own}
    shapes[f"{ENCODER}/patch_embed"] = _linear(sizes.patch_channels, width)
    factors = ("gamma1", "gamma2") if sizes.has_layer_scale else ()
    gate = 2 if sizes.use_swiglu_ffn else 1
    for i in range(sizes.num_hidden_layers):
        block = f"{ENCODER}/block_{i}"
        if factors:
            shapes[block] = dict.fromkeys(factors, (width,))
        shapes |= _block(block, width, hidden, gate)
    shapes[f"{ENCODER}/norm"] = _norm(width)
    if sizes.pooling_head:
        head = f"{ENCODER}/head"
        shapes[head] = {"probe": (1, width)}
        shapes |= _attention(f"{head}/attn", width)
        shapes[f"{head}/norm"] = _norm(width)
        shapes |= _mlp(f"{head}/mlp", width, hidden)
    return shapes


def decoder_shapes(sizes: DecoderConfig) -> Shapes:
    """Returns Haiku module path to parameter name to shape of a decoder.

    `vision_decoder` holds `positions` and `class_token` or `mask_token`; below it lie
    `embed`, `block_I` as in encoders, `norm` and `prediction`.
    """
    width = sizes.decoder_hidden_size
    token = "class_token" if sizes.class_source == "trainable" else "mask_token"
    shapes: Shapes = {
        DECODER: {token: (width,), "positions": (sizes.tokens + 1, width)},
        f"{DECODER}/embed": _linear(sizes.hidden_size, width),
    }
    for i in range(sizes.decoder_num_hidden_layers):
        shapes |= _block(f"{DECODER}/block_{i}", width, sizes.decoder_intermediate_size)
    pixels = sizes.patch_size**2 * sizes.num_channels
    shapes[f"{DECODER}/norm"] = _norm(width)
    shapes[f"{DECODER}/prediction"] = _linear(width, pixels)
    return shapes


def _linear(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {"w": (inputs, outputs), "b": (outputs,)}


def _norm(width: int) -> dict[str, tuple[int, ...]]:
    return {"scale": (width,), "offset": (width,)}


def _attention(module: str, width: int) -> Shapes:
    return {
        f"{module}/qkv": _linear(width, 3 * width),
        f"{module}/proj": _linear(width, width),
    }


def _mlp(module: str, width: int, hidden: int, gate: int = 1) -> Shapes:
    return {
        f"{module}/fc1": _linear(width, gate * hidden),
        f"{module}/fc2": _linear(hidden, width),
    }


def _block(module: str, width: int, hidden: int, gate: int = 1) -> Shapes:
    return {
        f"{module}/norm1": _norm(width),
        **_attention(f"{module}/attn", width),
        f"{module}/norm2": _norm(width),
        **_mlp(f"{module}/mlp", width, hidden, gate),
    }
