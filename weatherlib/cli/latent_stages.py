"""Models on vision encoders as families of `weatherlib train`."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weatherlib.cli import backbones, families, latent_families
from weatherlib.latent import autoencoder_config, stage_config
from weatherlib.latent.config import DECODER, ENCODER, DecoderConfig
from weatherlib.task import TaskConfig

__all__ = ["autoencoder", "direct"]

_LARGEST_INSIDE = 100_000_000  # Parameters of an encoder that a file holds as well.

Params = Mapping[str, Any]
Batch = Callable[[int, int], Any]


def autoencoder() -> families.Family:
    """Returns autoencoders of fields, stage A."""
    kind = autoencoder_config.LatentAutoencoderCheckPoint

    def network(
        model_config: autoencoder_config.LatentAutoencoderConfig,
        task_config: TaskConfig,
        remat: bool,
    ) -> Any:
        from weatherlib.latent import autoencoder_predictor

        return autoencoder_predictor.LatentAutoencoder(
            model_config, task_config, remat=remat
        )

    def read(path: pathlib.Path) -> Any:
        from weatherlib import checkpoint

        return checkpoint.open_checkpoint(path, kind)

    return families.Family(
        title="autoencoder of fields",
        config_class=autoencoder_config.LatentAutoencoderConfig,
        network=network,
        save=families.saver(kind, autoencoder_config.LATENT_AUTOENCODER),
        load=lambda path: read(path).params,
        read=read,
        complete=latent_families.complete,
        frozen=latent_families.frozen,
        own_loss=True,
        forecasts=False,
    )


def direct() -> families.Family:
    """Returns direct forecasts, stage 1."""
    return families.Family(
        title="direct forecast by a vision encoder",
        config_class=stage_config.Stage1DirectConfig,
        network=_direct_network,
        save=_save_direct,
        load=lambda path: _read_direct(path).params,
        read=_read_direct,
        layers=_direct_layers,
        start=_start_direct,
        complete=_complete_direct,
        frozen=_frozen_direct,
    )


def _direct_network(
    model_config: stage_config.Stage1DirectConfig, task_config: TaskConfig, remat: bool
) -> Any:
    from weatherlib.baselines import grid_predictor
    from weatherlib.latent import direct as networks

    encoder = model_config.sizes
    backbone = networks.ExternalRepEncoder(
        encoder,
        freeze=model_config.freeze_backbone,
        target_hw=model_config.image_size(encoder),
        mean=model_config.image_mean,
        std=model_config.image_std,
        train_in_adapter=model_config.train_in_adapter,
        remat=remat,
    )
    network = networks.DirectNetwork(backbone, model_config.decoder(1), remat=remat)
    return grid_predictor.GridPredictor(model_config, network, task_config)


def _direct_layers(model_config: stage_config.Stage1DirectConfig) -> tuple[str, ...]:
    layers = ["in_adapter/*"]
    if not model_config.freeze_backbone:
        count = model_config.sizes.num_hidden_layers
        layers.append(f"{ENCODER}/[cmrp]*")  # Tokens, positions and patches.
        layers += [f"{ENCODER}/block_{i}/*" for i in range(count)]
        layers.append(f"{ENCODER}/[nh]*")
    count = model_config.decoder_num_hidden_layers
    first = (f"{DECODER}/[ce]*", f"{DECODER}/positions")
    blocks = (f"{DECODER}/block_{i}/*" for i in range(count))
    return (*layers, *first, *blocks, f"{DECODER}/norm/*", f"{DECODER}/prediction/*")


def _frozen_direct(model_config: stage_config.Stage1DirectConfig, module: str) -> bool:
    """Whether a module of direct forecasts is never trained."""
    root = module.split("/")[0]
    if root == ENCODER:
        return model_config.freeze_backbone
    return root == "in_adapter" and not model_config.train_in_adapter


def _complete_direct(
    model_config: stage_config.Stage1DirectConfig, batch: Batch
) -> tuple[stage_config.Stage1DirectConfig, dict[str, Any]]:
    """Returns a configuration with what its encoder says, and the encoder's weights.

    Raises:
      FileNotFoundError: There is no such folder, or a file of it is missing.
      OSError: It cannot be read.
      ValueError: It is no encoder, does not fit, or none is named.
    """
    del batch
    found = _find_backbone(model_config)
    sizes = found.sizes
    try:
        model_config.image_size(sizes)
        inside = model_config.backbone_inside
        if inside is None:
            count = sum(
                np.size(a) for held in found.params.values() for a in held.values()
            )
            inside = not model_config.freeze_backbone or count <= _LARGEST_INSIDE
        if not inside and not found.folder:
            raise ValueError(
                "backbone_inside: a random encoder has no folder to refer to; leave "
                "it out"
            )
        completed = model_config.replace(
            backbone="" if inside else found.folder,
            random_backbone=False,
            encoder=sizes,
            digest=found.digest if model_config.freeze_backbone else "",
            backbone_inside=inside,
        )
    except ValueError as error:
        raise ValueError(f"model: {error}") from error
    return completed, found.params


def _find_backbone(model_config: stage_config.Stage1DirectConfig) -> backbones.Backbone:
    """Returns the encoder that a configuration means."""
    name, given = model_config.backbone, model_config.encoder
    if model_config.random_backbone:
        if name and given is None:
            given = backbones.find_sizes(name, "model.backbone")
        if given is None:
            raise ValueError(
                "model.random_backbone: of which sizes? Name an encoder in backbone, "
                "such as facebook/dinov2-base, or give encoder"
            )
        return backbones.draw(given)
    if not name:
        raise ValueError(
            "model.backbone: missing; name a folder with config.json and weights, or "
            "published weights that were fetched, or set random_backbone to try things"
        )
    found = backbones.read(name, "model.backbone")
    if given is not None and given != found.sizes:
        wrong = [key for key in given if given[key] != found.sizes[key]]
        raise ValueError(
            f"model.encoder: {', '.join(wrong)} is another than in {name}, where "
            f"{wrong[0]} is {found.sizes[wrong[0]]!r}; leave encoder out"
        )
    return found


def _save_direct(
    path: pathlib.Path,
    params: Params,
    model_config: stage_config.Stage1DirectConfig,
    *rest: Any,
    **texts: str,
) -> None:
    """Writes a published file, without a backbone that lies elsewhere."""
    if model_config.backbone:
        params = {m: v for m, v in params.items() if not backbones.is_part(m)}
    save = families.saver(
        stage_config.Stage1DirectCheckPoint, stage_config.STAGE1_DIRECT
    )
    save(path, params, model_config, *rest, **texts)


def _read_direct(path: pathlib.Path) -> stage_config.Stage1DirectCheckPoint:
    """Returns a published file with the backbone that it may refer to.

    Raises:
      FileNotFoundError: The backbone is neither where it was nor beside the file.
      OSError: A file cannot be read.
      ValueError: A file is damaged, or the backbone is another one.
    """
    from weatherlib import checkpoint

    held = checkpoint.open_checkpoint(path, stage_config.Stage1DirectCheckPoint)
    config = held.model_config
    if not config.backbone:
        return held
    named = pathlib.Path(config.backbone)
    beside = path.parent / named.name
    folder = named if named.is_dir() else beside
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{path}: its vision encoder lies in {named}, which does not exist; put "
            f"the folder there or at {beside}"
        )
    found = backbones.read(str(folder), str(path))
    if config.digest and found.digest != config.digest:
        raise ValueError(
            f"{path}: was trained with another vision encoder ({config.digest}) than "
            f"that in {folder} ({found.digest})"
        )
    return held.replace(params={**found.params, **held.params})


def _start_direct(
    path: pathlib.Path,
    model_config: stage_config.Stage1DirectConfig,
    params: Params,
    init: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Returns parameters of a file, and all else fresh.

    The file is a checkpoint of a stage, a decoder, or a folder with the files of half
    precision that a script leaves behind.

    With `adapt`, what has another shape begins anew as well: a decoder of images has
    three channels, and one of forecasts as many as frames and variables.
    """
    from weatherlib import checkpoint
    from weatherlib.weights import direct_parts, vision

    if init.variables:
        raise ValueError("init_from.variables: this family has no names in its weights")
    architecture = ""
    if path.is_file() and path.suffix == ".npz":
        architecture = checkpoint.read_text(path, "architecture")
    if architecture:
        family = families.FAMILIES[families.recognise(path)]()
        found = dict(family.load(path))
    elif path.is_dir() and direct_parts.find(path):
        decoder = direct_parts.find(path).get(direct_parts.DECODER_STEM)
        sizes = _decoder_sizes(decoder, model_config)
        found = dict(direct_parts.read(path, sizes).params)
    else:
        sizes = _decoder_sizes(path, model_config) if path.is_file() else None
        found = dict(vision.load_decoder(path, sizes).params)
    roots = {module.split("/")[0] for module in params}
    found = {m: v for m, v in found.items() if m.split("/")[0] in roots}
    return _fitted(found, params, adapt=init.adapt)


def _decoder_sizes(
    path: pathlib.Path | None, model_config: stage_config.Stage1DirectConfig
) -> DecoderConfig:
    """Returns the sizes of a decoder in a file, of as many channels as it has.

    Without a file, or of a file of something else, those of the model.
    """
    from weatherlib.weights import flat

    encoder = model_config.sizes
    sizes = model_config.decoder(1).decoder(
        encoder.grid(*model_config.image_size(encoder))
    )
    if path is None:
        return sizes
    for name, array in flat.read(path).arrays.items():
        if name.endswith("decoder_pred.bias") and array.size:
            channels = max(array.size // sizes.patch_size**2, 1)
            return sizes.replace(num_channels=channels)
    return sizes


def _fitted(
    found: Mapping[str, Any], params: Params, *, adapt: bool
) -> tuple[dict[str, Any], list[str]]:
    """Returns parameters of a file where they fit, and fresh ones, with what is fresh.

    Args:
      found: Of the file, by path.
      params: Fresh ones of the whole model.
      adapt: Whether parameters of another shape begin anew.
    """
    given = {module.split("/")[0] for module in found}
    result: dict[str, Any] = {}
    lines = []
    for module, values in params.items():
        root = module.split("/")[0]
        if root not in given:
            result[module] = values
            continue
        held = found.get(module, {})
        chosen = {}
        for name, fresh in values.items():
            fits = name in held and np.shape(held[name]) == np.shape(fresh)
            if not fits and adapt:
                lines.append(f"does not fit, begins anew: {module}/{name}")
            taken = name in held and (fits or not adapt)
            chosen[name] = held[name] if taken else fresh
        result[module] = chosen
    absent = sorted({m.split("/")[0] for m in params} - given)
    lines += [f"not in the file, begins anew: {root}" for root in absent]
    return result, lines
