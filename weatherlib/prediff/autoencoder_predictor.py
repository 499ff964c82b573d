"""The first stage of PreDiff as a predictor that is trained: frames and back."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from weatherlib import predictor_base
from weatherlib.nn import autoencoder, autoencoder_training, discriminator
from weatherlib.nn.autoencoder_config import DECODER, ENCODER
from weatherlib.prediff import latent_stage, stage_frames, stage_predictor
from weatherlib.prediff.stage_config import PreDiffAutoencoderConfig
from weatherlib.typing import PyTree

__all__ = ["JUDGE", "AutoencoderPredictor", "first_params"]

JUDGE = "judge"
"""First part of the paths of the discriminator, which only training needs."""

_ERROR = "autoencoder_loss"


class AutoencoderPredictor(stage_predictor.StagePredictor):
    """Trains an autoencoder on all frames of samples, each for itself.

    It makes no forecasts. Autoencoder and discriminator have one loss, a sum whose
    terms reach the parameters of one of them only, so one optimiser trains both.
    """

    no_forecasts = (
        "an autoencoder of PreDiff makes no forecasts; train the family prediff with "
        "its file as model.autoencoder"
    )
    one_step = (
        "an autoencoder is trained on single steps: set rollout to 1, and "
        "output_length to the frames that a sample shall have"
    )

    def loss(
        self,
        inputs: xr.Dataset,
        targets: xr.Dataset,
        forcings: xr.Dataset,
        is_training: bool = True,
        update: Array | None = None,
    ) -> predictor_base.LossAndDiagnostics:
        """Returns how badly frames come back, and how badly the discriminator judges.

        Args:
          inputs: Frames.
          targets: Further frames.
          forcings: Without variables.
          is_training: Whether the discriminator counts, and learns.
          update: Updates made so far, for `adversarial_start`; None lets the
            discriminator count.

        Raises:
          ValueError: The datasets do not fit the task or the model.
        """
        config = self._config
        sizes = config.autoencoder
        self._check(inputs, targets, forcings, sizes.in_channels)
        fields = jnp.concatenate([_fields(data, config) for data in (inputs, targets)])
        params = latent_stage.lifted(lambda key: first_params(config, key))
        log_variance = params[_ERROR]["log_variance"]
        if latent_stage.computing_dtype(next(iter(inputs.values())).dtype):
            fields = fields.astype(jnp.bfloat16)
            params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        loss, parts = self._losses(
            params, fields, log_variance, update, is_training=is_training
        )
        return predictor_base.batch_losses(loss, parts, inputs)

    def _losses(
        self,
        params: PyTree,
        fields: Float[Array, "frame lat lon channel"],
        log_variance: Array,
        update: Array | None,
        *,
        is_training: bool,
    ) -> tuple[Array, dict[str, Array]]:
        """Returns the loss of both networks, and its parts."""
        config, settings = self._config, self._config.loss
        model = autoencoder.Autoencoder(
            sizes=config.autoencoder,
            batch_size=config.frames_at_once,
            remat=self._remat,
        )
        judge = None
        if not is_training:
            settings = settings.replace(adversarial_weight=0.0)
        elif settings.adversarial_weight:
            held = jax.lax.stop_gradient(latent_stage.part(params, JUDGE))
            judge = _judge(config, held)
        if not settings.learn_log_variance:
            log_variance = jax.lax.stop_gradient(log_variance)
        found = autoencoder_training.autoencoder_loss(
            model,
            settings,
            latent_stage.part(params, ENCODER, DECODER),
            fields,
            hk.next_rng_key(),
            log_variance=log_variance,
            judge=judge,
            step=update,
        )
        parts = {"error": found.error, "kl": found.kl}
        if judge is None:
            return found.loss, parts
        judged = autoencoder_training.judge_loss(
            settings,
            _judge(config, latent_stage.part(params, JUDGE)),
            fields,
            found.decoded,
            update,
        ).astype(jnp.float32)
        parts |= {"adversarial": found.adversarial, "judge": judged}
        return found.loss + judged, parts


def first_params(config: PreDiffAutoencoderConfig, key: Array) -> PyTree:
    """Returns first parameters of all parts, by path.

    Args:
      config: Sizes; there is a discriminator where it counts.
      key: Draws them.
    """
    of_coder, of_judge = jax.random.split(key)
    sizes = config.autoencoder
    found = dict(autoencoder.Autoencoder(sizes=sizes).init(of_coder))
    found[_ERROR] = {"log_variance": jnp.zeros((), jnp.float32)}
    if config.loss.adversarial_weight:
        side = discriminator.smallest_side(config.discriminator.layers)
        fields = jnp.zeros((1, side, side, sizes.out_channels))
        found |= _discriminator(config).init(of_judge, fields)
    return found


def _discriminator(config: PreDiffAutoencoderConfig) -> hk.Transformed:
    sizes = config.discriminator

    def run(fields: Array) -> Array:
        judge = discriminator.PatchDiscriminator(
            sizes.width, sizes.layers, sizes.groups, name=JUDGE
        )
        return judge(fields)

    return hk.without_apply_rng(hk.transform(run))


def _judge(
    config: PreDiffAutoencoderConfig, params: PyTree
) -> autoencoder_training.Judge:
    """Returns the discriminator as a function of fields."""
    apply = _discriminator(config).apply
    return lambda fields: apply(params, fields)


def _fields(
    dataset: xr.Dataset, config: PreDiffAutoencoderConfig
) -> Float[Array, "frame lat lon channel"]:
    """Returns the frames of all samples one after the other."""
    frames = stage_frames.read(dataset, config.value_range)
    return frames.reshape(-1, *frames.shape[2:])
