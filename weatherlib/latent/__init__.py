"""Vision transformers as encoders of fields, and decoders that are trained on them.

Networks, and JAX with them, are loaded when they are first asked for, so that
configurations can be read without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.latent.autoencoder_config import (
    LATENT_AUTOENCODER,
    LatentAutoencoderCheckPoint,
    LatentAutoencoderConfig,
)
from weatherlib.latent.codec_config import CodecConfig
from weatherlib.latent.config import DecoderConfig, EncoderConfig
from weatherlib.latent.direct_config import RAEConfig
from weatherlib.latent.dit_config import DIT_SIZES, DiTConfig
from weatherlib.latent.forecast_config import (
    LATENT_DIFFUSION,
    LATENT_UNET,
    LatentDiffusionCheckPoint,
    LatentDiffusionConfig,
    LatentUNetCheckPoint,
    LatentUNetConfig,
)
from weatherlib.latent.published import DECODERS, ENCODER_CLASSES, ENCODERS
from weatherlib.latent.stage_config import (
    STAGE1_DIRECT,
    Stage1DirectCheckPoint,
    Stage1DirectConfig,
)

if TYPE_CHECKING:
    from weatherlib.latent.autoencoder_predictor import LatentAutoencoder
    from weatherlib.latent.codec import Codec
    from weatherlib.latent.decoder import Decoder
    from weatherlib.latent.direct import (
        DirectNetwork,
        ExternalRepEncoder,
        RAEDecoder,
        RAEDiffusionWeather,
    )
    from weatherlib.latent.dit import DiT, WideHeadDiT
    from weatherlib.latent.encoder import Encoder, PackedEncoder
    from weatherlib.latent.latent_diffusion import LatentDiffusion
    from weatherlib.latent.latent_unet import LatentUNet
    from weatherlib.latent.representation import (
        LatentStatistics,
        RepresentationAutoencoder,
    )
    from weatherlib.latent.wrapper import RAEWrapper

__all__ = [
    "DECODERS",
    "DIT_SIZES",
    "ENCODERS",
    "ENCODER_CLASSES",
    "LATENT_AUTOENCODER",
    "LATENT_DIFFUSION",
    "LATENT_UNET",
    "STAGE1_DIRECT",
    "Codec",
    "CodecConfig",
    "Decoder",
    "DecoderConfig",
    "DiT",
    "DiTConfig",
    "DirectNetwork",
    "Encoder",
    "EncoderConfig",
    "ExternalRepEncoder",
    "LatentAutoencoder",
    "LatentAutoencoderCheckPoint",
    "LatentAutoencoderConfig",
    "LatentDiffusion",
    "LatentDiffusionCheckPoint",
    "LatentDiffusionConfig",
    "LatentStatistics",
    "LatentUNet",
    "LatentUNetCheckPoint",
    "LatentUNetConfig",
    "PackedEncoder",
    "RAEConfig",
    "RAEDecoder",
    "RAEDiffusionWeather",
    "RAEWrapper",
    "RepresentationAutoencoder",
    "Stage1DirectCheckPoint",
    "Stage1DirectConfig",
    "WideHeadDiT",
]

_LAZY = {
    "Codec": "codec",
    "Decoder": "decoder",
    "DiT": "dit",
    "DirectNetwork": "direct",
    "Encoder": "encoder",
    "ExternalRepEncoder": "direct",
    "LatentAutoencoder": "autoencoder_predictor",
    "LatentDiffusion": "latent_diffusion",
    "LatentStatistics": "representation",
    "LatentUNet": "latent_unet",
    "PackedEncoder": "encoder",
    "RAEDecoder": "direct",
    "RAEDiffusionWeather": "direct",
    "RAEWrapper": "wrapper",
    "RepresentationAutoencoder": "representation",
    "WideHeadDiT": "dit",
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
