"""PreDiff: precipitation nowcasting by latent diffusion, guided by knowledge.

Networks, and JAX with them, are loaded when they are first asked for, so that
configurations can be read without.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weatherlib.prediff.config import (
    ALIGNMENT,
    EARTHFORMER_UNET,
    AlignmentConfig,
    EarthformerUNetConfig,
)
from weatherlib.prediff.published import (
    PUBLISHED_ALIGNMENT,
    PUBLISHED_UNET,
    alignment_from_published,
    unet_from_published,
)
from weatherlib.prediff.stage_config import (
    PreDiffAlignmentConfig,
    PreDiffAutoencoderConfig,
    PreDiffConfig,
)

if TYPE_CHECKING:
    from weatherlib.prediff.alignment import AlignmentNetwork
    from weatherlib.prediff.ensembles import EnsembleSampler
    from weatherlib.prediff.guide_config import FrameGuide, IntensityGuide, JointGuide
    from weatherlib.prediff.latent_diffusion import LatentDiffusion
    from weatherlib.prediff.network import EarthformerUNet
    from weatherlib.prediff.nowcaster import open_nowcaster
    from weatherlib.prediff.predictor import PreDiff

__all__ = [
    "ALIGNMENT",
    "EARTHFORMER_UNET",
    "PUBLISHED_ALIGNMENT",
    "PUBLISHED_UNET",
    "AlignmentConfig",
    "AlignmentNetwork",
    "EarthformerUNet",
    "EarthformerUNetConfig",
    "EnsembleSampler",
    "FrameGuide",
    "IntensityGuide",
    "JointGuide",
    "LatentDiffusion",
    "PreDiff",
    "PreDiffAlignmentConfig",
    "PreDiffAutoencoderConfig",
    "PreDiffConfig",
    "alignment_from_published",
    "open_nowcaster",
    "unet_from_published",
]

_LATER = {
    "AlignmentNetwork": "alignment",
    "EarthformerUNet": "network",
    "EnsembleSampler": "ensembles",
    "FrameGuide": "guide_config",
    "IntensityGuide": "guide_config",
    "JointGuide": "guide_config",
    "LatentDiffusion": "latent_diffusion",
    "PreDiff": "predictor",
    "open_nowcaster": "nowcaster",
}


def __getattr__(name: str) -> Any:
    """Imports a class when it is first asked for."""
    if name in _LATER:
        module = importlib.import_module(f"weatherlib.prediff.{_LATER[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
