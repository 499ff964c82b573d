"""Vision transformers as encoders of fields, and decoders that are trained on them.

Networks, and JAX with them, are loaded when they are first asked for, so that
configurations can be read without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.latent.config import DecoderConfig, EncoderConfig
from weatherlib.latent.direct_config import RAEConfig
from weatherlib.latent.published import DECODERS, ENCODER_CLASSES, ENCODERS
from weatherlib.latent.stage_config import Stage1DirectCheckPoint, Stage1DirectConfig

if TYPE_CHECKING:
    from weatherlib.latent.decoder import Decoder
    from weatherlib.latent.direct import (
        DirectNetwork,
        ExternalRepEncoder,
        RAEDecoder,
        RAEDiffusionWeather,
    )
    from weatherlib.latent.encoder import Encoder, PackedEncoder
    from weatherlib.latent.representation import (
        LatentStatistics,
        RepresentationAutoencoder,
    )
    from weatherlib.latent.wrapper import RAEWrapper

__all__ = [
    "DECODERS",
    "ENCODERS",
    "ENCODER_CLASSES",
    "Decoder",
    "DecoderConfig",
    "DirectNetwork",
    "Encoder",
    "EncoderConfig",
    "ExternalRepEncoder",
    "LatentStatistics",
    "PackedEncoder",
    "RAEConfig",
    "RAEDecoder",
    "RAEDiffusionWeather",
    "RAEWrapper",
    "RepresentationAutoencoder",
    "Stage1DirectCheckPoint",
    "Stage1DirectConfig",
]

_LAZY = {
    "Decoder": "decoder",
    "DirectNetwork": "direct",
    "Encoder": "encoder",
    "ExternalRepEncoder": "direct",
    "LatentStatistics": "representation",
    "PackedEncoder": "encoder",
    "RAEDecoder": "direct",
    "RAEDiffusionWeather": "direct",
    "RAEWrapper": "wrapper",
    "RepresentationAutoencoder": "representation",
}


def __getattr__(name: str) -> Any:
    """Imports networks when they are first asked for."""
    if name in _LAZY:
        module = importlib.import_module(f"weatherlib.latent.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
