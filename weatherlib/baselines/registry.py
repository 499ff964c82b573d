"""All models on grids by name. Nothing here imports JAX or xarray until one is made."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import TYPE_CHECKING, Any

from weatherlib import config
from weatherlib.baselines.common import FrameModelConfig
from weatherlib.task import TaskConfig

if TYPE_CHECKING:
    from weatherlib import predictor_base

__all__ = [
    "MODELS",
    "REFERENCES",
    "Model",
    "checkpoint_type",
    "create",
    "find",
    "name_of",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A kind of model.

    Attributes:
      title: What tables and pictures call it.
      original: Name of the class that it is known by, by which `find` knows it too.
      config: Module below this package and name of the configuration's class.
      network: Module and name of the network's class.
      closed_form: Whether `linear_fit` finds its weights, without gradients.
      weightless: Whether it has no weights.
    """

    title: str
    original: str
    config: tuple[str, str]
    network: tuple[str, str]
    closed_form: bool = False
    weightless: bool = False

    @property
    def config_class(self) -> type[FrameModelConfig]:
        """The class of its configuration."""
        return _load(*self.config)

    def make_network(self, model_config: FrameModelConfig, remat: bool = False) -> Any:
        """Returns the network, inside a Haiku transformation."""
        return _load(*self.network)(model_config, remat=remat)


def _model(title: str, module: str, name: str, original: str = "") -> Model:
    return Model(
        title=title,
        original=original or name,
        config=(f"{module}_config", f"{name}Config"),
        network=(f"{module}_network", f"{name}Network"),
    )


MODELS: dict[str, Model] = {
    "lr": Model(
        title="linear regression",
        original="lr",
        config=("linear_config", "LinearConfig"),
        network=("linear_network", "LinearNetwork"),
        closed_form=True,
    ),
    "lr_multi": Model(
        title="linear regression by variable",
        original="MultiOutputLinearRegression",
        config=("linear_config", "MultiLinearConfig"),
        network=("linear_network", "LinearNetwork"),
        closed_form=True,
    ),
    "lstm": _model("LSTM", "sequence", "LSTM"),
    "bidirectional_lstm": _model("bidirectional LSTM", "sequence", "BidirectionalLSTM"),
    "lstm_seq2seq": _model("LSTM encoder and decoder", "sequence", "LSTMSeq2Seq"),
    "transformer": _model("Transformer", "sequence", "Transformer", "TransformerModel"),
    "transformer_seq2seq": _model(
        "Transformer encoder and decoder", "sequence", "TransformerSeq2Seq"
    ),
    "spatial_transformer": _model(
        "spatial Transformer", "sequence", "SpatialTransformer"
    ),
    "cnn": _model("CNN", "convolution", "CNN"),
    "deep_cnn": _model("deep CNN", "convolution", "DeepCNN"),
    "convlstm": _model("ConvLSTM", "convlstm", "ConvLSTM"),
    "convlstm_seq2seq": _model(
        "ConvLSTM encoder and decoder", "convlstm", "ConvLSTMSeq2Seq"
    ),
    "weather_transformer": _model(
        "Weather Transformer", "weather_transformer", "WeatherTransformer"
    ),
    "pixel_unet": _model("Pixel U-Net", "convolution", "PixelUNet"),
}
"""By the name that configurations and `create` use."""

REFERENCES: dict[str, Model] = {
    name.lower(): Model(
        title=name.lower(),
        original=name,
        config=("weightless_config", f"{name}Config"),
        network=("weightless_network", f"{name}Network"),
        weightless=True,
    )
    for name in ("Persistence", "Climatology")
}
"""What models must beat, under the same contract."""

_ALL = {**MODELS, **REFERENCES}


def find(name: str) -> Model:
    """Returns the model of a name, which may be that of the original class.

    Raises:
      ValueError: There is none.
    """
    for model in _ALL.values():
        if model.original == name:
            return model
    if name not in _ALL:
        hint = config.closest_hint(name, _ALL)
        raise ValueError(
            f"there is no model {name!r}{hint}; one of {', '.join(sorted(_ALL))}"
        )
    return _ALL[name]


def name_of(model_config: FrameModelConfig) -> str:
    """Returns the name of the model that a configuration belongs to.

    Raises:
      ValueError: There is none.
    """
    for name, model in _ALL.items():
        if model.config[1] == type(model_config).__name__:
            return name
    raise ValueError(f"{type(model_config).__name__}: no model has this configuration")


@functools.cache
def checkpoint_type(name: str) -> type:
    """Returns the dataclass of a model's checkpoints, for `weatherlib.checkpoint`.

    Its fields are those of `config.CheckPoint`, with the model's own configuration.

    Raises:
      ValueError: There is no such model.
    """
    fields = {
        "architecture": str,
        "params": dict[str, Any],
        "model_config": find(name).config_class,
        "task_config": TaskConfig,
        "description": str,
        "license": str,
    }
    return dataclasses.make_dataclass(
        "CheckPoint",
        list(fields.items()),
        bases=(config.Mapping,),
        frozen=True,
        kw_only=True,
        namespace={"__module__": __name__},
    )


def create(
    name: str,
    model_config: FrameModelConfig | None = None,
    task_config: TaskConfig | None = None,
    *,
    remat: bool = False,
) -> predictor_base.Predictor:
    """Returns a predictor; call it inside the function given to `hk.transform`.

    Args:
      name: One of `MODELS` or `REFERENCES`.
      model_config: Sizes, of the model's class of configurations; by default the
        published ones.
      task_config: What is read and predicted, if that is to be checked.
      remat: Whether the backward pass computes the inside of layers again, which takes
        less memory and more time.

    Raises:
      ValueError: There is no such model, or the configuration is that of another.
    """
    model = find(name)
    if model_config is None:
        model_config = model.config_class()
    if not isinstance(model_config, model.config_class):
        raise ValueError(
            f"{name} needs a {model.config_class.__name__}, found a "
            f"{type(model_config).__name__}"
        )
    predictor = _load("grid_predictor", "GridPredictor")
    return predictor(model_config, model.make_network(model_config, remat), task_config)


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"weatherlib.baselines.{module}"), name)
