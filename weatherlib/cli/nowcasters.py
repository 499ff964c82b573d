"""Trained models as nowcasts: context pixels in, pixels of the next frames out.

`open_nowcaster` returns what `evaluation.evaluate_nowcasts` calls. A family that draws
members, or does not predict frames as those of `baselines` do, is one function in
`OPENERS`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping

import haiku as hk
import jax
import numpy as np
import xarray

from weatherlib import normalization, xarray_jax
from weatherlib.baselines import streaming
from weatherlib.baselines.common import FrameModelConfig
from weatherlib.cli import families, models
from weatherlib.data import radar, radar_grid, radar_units
from weatherlib.data_utils import times
from weatherlib.evaluation import nowcast_references
from weatherlib.evaluation.nowcasts import Nowcaster
from weatherlib.training import sharding

__all__ = [
    "OPENERS",
    "FrameNowcaster",
    "Guide",
    "Options",
    "draws_members",
    "frames_of",
    "open_nowcaster",
    "open_stream",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guide:
    """Knowledge of how much it will rain, for models that can be guided by it.

    Attributes:
      path: Checkpoint, or folder of the run, of a trained alignment network.
      scale: How much it pulls; 50 as published.
      factor: The mean intensity that is wanted, as a multiple of `of`.
      of: "last", the mean intensity of the last known frame; or "truth", that of the
        frames that follow, as the published script has it with factor 2: it shows what
        knowing it is worth, and is no forecast.
    """

    path: str
    scale: float = 50.0
    factor: float = 1.0
    of: str = "last"

    @classmethod
    def parse(cls, text: str, path: str | os.PathLike[str]) -> Guide:
        """Returns what "SCALE", "SCALE:FACTOR" or "SCALE:FACTOR:truth" says.

        Raises:
          ValueError: It is none of these, or a number is negative.
        """
        words = [*text.split(":"), *("1", "last")[text.count(":") :]]
        try:
            scale, factor = map(float, words[:2])
        except ValueError:
            scale = factor = -1.0
        if not (scale >= 0 and factor >= 0 and words[2:] in (["last"], ["truth"])):
            raise ValueError(
                "guide: expected SCALE, SCALE:FACTOR or SCALE:FACTOR:truth, such as "
                f"50:1.5, found {text!r}"
            )
        return cls(path=str(_in_run(path)), scale=scale, factor=factor, of=words[2])

    def wanted(self, frames: np.ndarray) -> np.ndarray:
        """Returns the mean intensity of each forecast, pixels of shape [batch].

        Args:
          frames: The known ones, pixels [batch, time, lat, lon, channel].
        """
        last = np.asarray(frames)[:, -1]
        return self.factor * last.mean(axis=tuple(range(1, last.ndim)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How nowcasts are drawn.

    Attributes:
      members: Futures of a model that draws them; others have one.
      seed: Of the draws.
      precision: One of `models.PRECISIONS`.
      cell_km: Side of a cell, km.
      guide: What members are guided by.
      sampler: How they are drawn, as `diffusion.SamplerConfig.parse` takes it, such as
        "ancestral", "ddim:50" or "dpm_solver:20:stochastic"; None is as the model says.
      latent_clip: Largest magnitude of predicted latent fields, in place of what the
        model says; None leaves that.
      layout: How samples and members, and for models of frames rows of pixels, are
        shared between devices; None leaves all on one.
      progress: Is told the steps of a draw that are done, and those in all.
    """

    members: int = 8
    seed: int = 0
    precision: str = "auto"
    cell_km: float = 1.0
    guide: Guide | None = None
    sampler: str | None = None
    latent_clip: float | None = None
    layout: sharding.Layout | None = None
    progress: Callable[[int, int], None] | None = None


def open_nowcaster(
    path: str | os.PathLike[str], options: Options | None = None
) -> Nowcaster:
    """Returns a trained model as a nowcast, compiled when it is first called.

    Args:
      path: A checkpoint, or the folder of a run, with its `stats/` beside it.
      options: How nowcasts are drawn.

    Raises:
      FileNotFoundError: There is no such file, or its statistics are missing.
      OSError: A file is damaged.
      ValueError: The model is none of radar pictures, or cannot do what is asked for.
    """
    options = options or Options()
    if options.members < 1:
        raise ValueError(f"members is at least 1, found {options.members}")
    model = models.load_model(_in_run(path))
    if model.family in OPENERS:
        return OPENERS[model.family](model, options)
    if options.guide is not None or options.sampler is not None:
        raise ValueError(
            f"{model.path}: a {model.family} has one future, which is neither drawn by "
            "a sampler nor guided; those of the family prediff are"
        )
    return FrameNowcaster(model, models.find_statistics(model), options)


def frames_of(path: str | os.PathLike[str]) -> int:
    """Returns how many frames a model predicts at once.

    Raises:
      FileNotFoundError: As for `open_nowcaster`.
      OSError: As for `open_nowcaster`.
      ValueError: The file is no checkpoint.
    """
    return models.load_model(_in_run(path)).frames_per_step


def draws_members(path: str | os.PathLike[str]) -> bool:
    """Returns whether a model draws its futures, and can be guided.

    Raises:
      FileNotFoundError: As for `open_nowcaster`.
      ValueError: The folder holds no checkpoint, or several.
    """
    return families.recognise(models.find_checkpoint(_in_run(path))) in OPENERS


def open_stream(path: str | os.PathLike[str]) -> streaming.Stream:
    """Returns a recurrent model that forecasts as frames arrive, one step for each.

    It takes datasets of `vil` with `lat` and `lon` as `radar_grid.on_plane` gives them,
    the dimension `batch`, and `datetime`; see `baselines.streaming.Stream`.

    Args:
      path: As for `open_nowcaster`.

    Raises:
      FileNotFoundError: As for `open_nowcaster`.
      OSError: As for `open_nowcaster`.
      ValueError: The model is none of radar pictures, or keeps no state from frame to
        frame.
    """
    model = models.load_model(_in_run(path))
    _require_radar(model)
    statistics = models.find_statistics(model)
    return streaming.Stream(
        model.model_config,
        model.params,
        model.task_config,
        time_step=str(model.time_step),
        wrap=lambda predictor: normalization.InputsAndResiduals(
            predictor, **statistics.by_level, residuals=predictor.predicts_changes
        ),
    )


class FrameNowcaster:
    """A model that predicts the next frames from some past ones.

    Attributes:
      inputs: Past frames that it reads; of more, the last.
      step: Time between frames.
      traces: How often the model has been traced.
    """

    def __init__(
        self,
        model: models.Model,
        statistics: models.Statistics,
        options: Options | None = None,
    ) -> None:
        """Takes a model; nothing is compiled before the first call.

        Raises:
          ValueError: The model is none of radar pictures.
        """
        self._options = options or Options()
        _require_radar(model)
        config = model.model_config
        if not isinstance(config, FrameModelConfig):
            raise ValueError(
                f"{model.path}: a {model.family} does not predict radar frames; there "
                "are nowcasts of the models of frames, such as convlstm"
            )
        self.inputs, self._each = config.input_length, config.output_length
        self.step = times.as_timedelta(str(model.time_step)).to_timedelta64()
        self._name = str(model.path)
        self._layout = self._options.layout
        place = jax.device_put if self._layout is None else self._layout.place
        self._params = place(model.params)
        self._state = model.state
        self.traces = self._batch = 0

        def predict(
            inputs: xarray.Dataset, template: xarray.Dataset, forcings: xarray.Dataset
        ) -> xarray.Dataset:
            self.traces += 1
            predictor = models.build_predictor(
                config,
                model.task_config,
                statistics,
                precision=self._options.precision,
            )
            return predictor(inputs, template, forcings=forcings)

        compiled = jax.jit if self._layout is None else self._layout.jit
        self._predict = compiled(hk.transform_with_state(predict).apply)

    def __call__(self, context: np.ndarray, leads: int) -> np.ndarray:
        """Returns pixels [batch, lead, lat, lon].

        Beyond what the model predicts at once it goes on from its own frames.

        Args:
          context: Pixels [batch, time, lat, lon], NaN where missing: they count as dry.
          leads: Number of frames.

        Raises:
          ValueError: The context is too short, or a frame of it has no pixel.
        """
        frames = nowcast_references.fill_missing(context, 1)
        if frames.shape[1] < self.inputs:
            raise ValueError(
                f"{self._name}: the model reads {self.inputs} frames, the context has "
                f"{frames.shape[1]}; give as many"
            )
        frames = frames[:, -self.inputs :].astype(np.float32)
        count = len(frames)
        # The last batch of many is often smaller, and would be compiled anew.
        parts = 1 if self._layout is None else self._layout.parts("batch")
        self._batch = max(self._batch, -(-count // parts) * parts)
        frames = np.concatenate([frames, frames[:1].repeat(self._batch - count, 0)])
        found: list[np.ndarray] = []
        while sum(part.shape[1] for part in found) < leads:
            found.append(self._next(frames))
            frames = np.concatenate([frames, found[-1]], axis=1)[:, -self.inputs :]
        return np.concatenate(found, axis=1)[:count, :leads]

    def _next(self, frames: np.ndarray) -> np.ndarray:
        """Returns the frames of one call of the model."""
        batch, _, rows, columns = frames.shape
        lat, lon = radar_grid.plane_degrees((rows, columns), self._options.cell_km)
        lead = np.arange(1 - self.inputs, self._each + 1) * self.step
        past, future = lead[: self.inputs], lead[self.inputs :]
        dims = ("batch", "time", "lat", "lon")
        blank = np.zeros((batch, self._each, rows, columns), np.float32)
        places = {"lat": lat, "lon": lon}
        inputs = xarray.Dataset({radar.NAME: (dims, frames)}, {"time": past, **places})
        template = xarray.Dataset(
            {radar.NAME: (dims, blank)}, {"time": future, **places}
        )
        key = jax.random.PRNGKey(self._options.seed)
        given = (inputs, template, template.drop_vars(radar.NAME))
        if self._layout is not None:
            given = self._layout.place_shared(given)
        found, _ = self._predict(self._params, self._state, key, *given)
        field = found[radar.NAME].transpose(*dims)
        pixels = np.asarray(xarray_jax.unwrap_data(field), np.float32)
        return np.clip(pixels, 0, radar_units.HIGHEST)


def _require_radar(model: models.Model) -> None:
    """Checks that a model predicts radar pictures.

    Raises:
      ValueError: It does not.
    """
    found = model.task_config.target_variables
    if found != (radar.NAME,) or model.time_step is None:
        raise ValueError(
            f"{model.path}: predicts {', '.join(found)}, no radar pictures "
            f"({radar.NAME}); train one with data.radar"
        )


def _in_run(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the checkpoint of a run's folder, or the path as it is."""
    inside = pathlib.Path(path) / "checkpoint.npz"
    return inside if inside.is_file() else pathlib.Path(path)


def _open_prediff(model: models.Model, options: Options) -> Nowcaster:
    from weatherlib import diffusion, prediff

    guide = sampler = None
    if options.guide is not None:
        given = options.guide
        by_truth = given.of == "truth"
        guide = prediff.IntensityGuide(
            path=given.path,
            wanted=None if by_truth else given.wanted,
            truth_factor=given.factor if by_truth else None,
            scale=given.scale,
        )
    if options.sampler is not None:
        sampler = diffusion.SamplerConfig.parse(options.sampler)
    if options.latent_clip is not None:
        drawn = model.model_config.sampler if sampler is None else sampler
        sampler = drawn.replace(clip=options.latent_clip)
    found = prediff.open_nowcaster(
        str(model.path),
        members=options.members,
        seed=options.seed,
        precision=models.resolve_precision(options.precision),
        guide=guide,
        sampler=sampler,
        progress=options.progress,
    )
    if options.layout is not None:
        found.share(_rows(options.layout, model))
    if model.time_step is not None:
        found.step = times.as_timedelta(model.time_step).to_timedelta64()
    return found


def _rows(layout: sharding.Layout, model: models.Model) -> jax.sharding.NamedSharding:
    """Returns how members of samples lie on devices.

    Raises:
      ValueError: Something else is shared between some of them.
    """
    devices = layout.mesh.size
    if layout.parts("sample") != devices:
        raise ValueError(
            f"{model.path}: devices can share samples and members of a {model.family}, "
            f"and not its pixels; use --sharding data={devices}"
        )
    return layout.sharding(("sample",), (devices,))


OPENERS: Mapping[str, Callable[[models.Model, Options], Nowcaster]] = {
    "prediff": _open_prediff,
}
"""Nowcasts of families that are opened in a way of their own, by name."""
