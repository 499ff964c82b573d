"""Forecasts as frames arrive, by networks that go on from where they were.

A network of cells remembers what it has read. Here its state is carried from call to
call, so that a new frame costs one step of the cells and not a whole window. Frames
one by one, or in groups, give the prediction of all frames at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray

from weatherlib import data_utils, predictor_base, xarray_jax
from weatherlib.baselines import convlstm_config, convlstm_network
from weatherlib.baselines.common import FrameModelConfig
from weatherlib.baselines.fields import Fields
from weatherlib.baselines.grid_predictor import GridPredictor
from weatherlib.data_utils import times
from weatherlib.nn.edges import ZERO, Edges
from weatherlib.task import TaskConfig
from weatherlib.typing import PyTree

__all__ = ["ArrayStream", "Stream", "advance", "initial_state"]

_NETWORKS = {
    convlstm_config.ConvLSTMConfig: convlstm_network.ConvLSTMNetwork,
    convlstm_config.ConvLSTMSeq2SeqConfig: convlstm_network.ConvLSTMSeq2SeqNetwork,
}


def initial_state(
    model_config: FrameModelConfig,
    fields: Fields,
    output_size: int,
    *,
    edges: Edges = ZERO,
) -> PyTree:
    """Returns the state before the first frame, zeros.

    Args:
      model_config: Sizes, of a network with cells.
      fields: Have the sizes of those to come, in any number of frames.
      output_size: Channels of a predicted frame.
      edges: How fields go on beyond their edges.

    Raises:
      ValueError: The network keeps no state, or the grid does not fit.
    """
    function = _array_function(model_config, output_size, edges)
    return _zeros(function, (fields.frames, fields.known, fields.static))


def advance(
    model_config: FrameModelConfig,
    params: PyTree,
    state: PyTree,
    fields: Fields,
    output_size: int,
    *,
    edges: Edges = ZERO,
) -> tuple[jax.Array, PyTree]:
    """Returns the prediction after some more frames, and the state after them.

    A pure function, to be jitted or mapped.

    Args:
      model_config: Sizes, of a network with cells.
      params: Its parameters.
      state: That of `initial_state`, or of the call before.
      fields: New frames, one or more, with what is known of the times to predict and
        what does not change.
      output_size: Channels of a predicted frame.
      edges: How fields go on beyond their edges.

    Returns:
      Frames [batch, step, lat, lon, output], and the state.

    Raises:
      ValueError: The network keeps no state, or the fields do not fit.
    """
    apply = _array_function(model_config, output_size, edges).apply
    return apply(params, state, None, fields.frames, fields.known, fields.static)


class _Carrying:
    """A compiled function with a state that goes from call to call.

    Attributes:
      state: What the network remembers; None before the first frame. It may be kept
        and set again.
      frames_read: Frames since the last `reset`.
      traces: How often the network has been traced: once for each number of frames.
    """

    def __init__(self, params: PyTree) -> None:
        self._params = jax.device_put(params)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.traces = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.state: PyTree = None
        self.frames_read = 0
        self._like: Any = None
        self._last: Any = None

    def _go_on(
        self, function: Any, count: int, like: tuple[Any, ...], *data: Any
    ) -> Any:
        """Returns what a function gives for new frames, after those before.

        Args:
          function: Makes the transformed function for a number of frames.
          count: How many there are.
          like: What must not change from call to call.
          data: Its arguments.

        Raises:
          ValueError: It changed.
        """
        if count not in self._compiled:
            transformed = function(count)

            def counted(*arguments: Any) -> Any:
                self.traces += 1
                return transformed.apply(*arguments)

            self._compiled[count] = jax.jit(counted)
        state = self.state
        if state is None:
            state = _zeros(function(count), data)
        elif self._like not in (None, like):
            raise ValueError(
                f"the frames before had batch and grid {self._like}, these have "
                f"{like}; reset() starts anew"
            )
        found, self.state = self._compiled[count](self._params, state, None, *data)
        self.frames_read, self._like = self.frames_read + count, like
        return found


class ArrayStream(_Carrying):
    """A network that is handed normalised arrays as they arrive.

        stream = streaming.ArrayStream(model_config, params, output_size=5)
        for frame in frames:  # [batch, lat, lon, channel]
            prediction = stream(frame[:, np.newaxis])

    Attributes:
      state: What the network remembers; None before the first frame. It may be kept
        and set again.
      frames_read: Frames since the last `reset`.
      traces: How often the network has been traced: once for each number of frames.
    """

    def __init__(
        self,
        model_config: FrameModelConfig,
        params: PyTree,
        output_size: int,
        *,
        edges: Edges = ZERO,
    ) -> None:
        """Takes the network; nothing is compiled before the first frame.

        Args:
          model_config: Sizes, of a network with cells.
          params: Its parameters.
          output_size: Channels of a predicted frame.
          edges: How fields go on beyond their edges.

        Raises:
          ValueError: The network keeps no state.
        """
        super().__init__(params)
        self._steps = model_config.output_length
        self._function = _array_function(model_config, output_size, edges)

    def __call__(self, frames: Any, known: Any = None, static: Any = None) -> jax.Array:
        """Returns the frames after those read so far, [batch, step, lat, lon, output].

        Args:
          frames: New ones, [batch, time, lat, lon, channel].
          known: Of the times to predict, [batch, step, lat, lon, forcing]; None where
            nothing is known.
          static: Fields without time, [batch, lat, lon, static], or None.

        Raises:
          ValueError: The arrays do not fit, or batch and grid are not those of the
            frames before.
        """
        frames = jnp.asarray(frames)
        if frames.ndim != 5:
            raise ValueError(
                "frames need the axes batch, time, lat, lon and channel, found the "
                f"shape {frames.shape}"
            )
        batch, count, *sizes, _ = frames.shape
        nothing = jnp.zeros((batch, self._steps, *sizes, 0), frames.dtype)
        known = nothing if known is None else jnp.asarray(known)
        static = nothing[:, 0] if static is None else jnp.asarray(static)
        return self._go_on(
            lambda _: self._function, count, (batch, *sizes), frames, known, static
        )


class Stream(_Carrying):
    """A model that is handed datasets as they arrive, in their own units.

        def wrap(predictor):
            return normalization.InputsAndResiduals(
                predictor, stddev, mean, diffs_stddev,
                residuals=predictor.predicts_changes,
            )

        stream = streaming.Stream(
            checkpoint.model_config, checkpoint.params, checkpoint.task_config,
            wrap=wrap, time_step="6h",
        )
        for frame in radar:  # datasets of one or more times
            forecast = stream(frame)

    Attributes:
      state: What the network remembers; None before the first frame. It may be kept
        and set again.
      frames_read: Frames since the last `reset`.
      traces: How often the network has been traced: once for each number of frames.
    """

    def __init__(
        self,
        model_config: FrameModelConfig,
        params: PyTree,
        task_config: TaskConfig,
        *,
        time_step: times.TimedeltaLike,
        wrap: Callable[[predictor_base.Predictor], predictor_base.Predictor]
        | None = None,
    ) -> None:
        """Takes the model; nothing is compiled before the first frame.

        Args:
          model_config: Sizes, of a network with cells.
          params: Its parameters.
          task_config: What is read and predicted.
          time_step: Time between frames.
          wrap: Puts what normalises, and other wrappers, around the predictor; called
            inside a Haiku transformation. None where the data are normalised.

        Raises:
          ValueError: The network keeps no state, or the time step is none.
        """
        super().__init__(params)
        _network_of(model_config)
        self._config = model_config
        self._task = task_config
        self._step = times.as_timedelta(time_step)
        self._wrap = wrap or (lambda predictor: predictor)

    def __call__(
        self, frames: xarray.Dataset, known: xarray.Dataset | None = None
    ) -> xarray.Dataset:
        """Returns the forecast from the last of the frames read so far.

        Args:
          frames: The next ones, with the input variables of the task, static fields
            among them, and the coordinate `datetime`, by which forcings are computed
            and gaps are found.
          known: Holds forcings at the valid times that cannot be computed.

        Returns:
          The targets of the task at the times to predict: `time` counts from the last
          frame, `datetime` is the valid time.

        Raises:
          ValueError: Variables are missing, frames are not one time step apart, do not
            follow the last ones, or have another grid.
        """
        frames = data_utils.decode_time(frames)
        count, steps = frames.sizes.get("time", 0), self._config.output_length
        if not count:
            raise ValueError("frames: found none; give one or more along `time`")
        valid = data_utils.valid_times(frames)
        self._check_follows(valid.values.reshape(-1, count))
        task = self._task.replace(input_duration=str(count * self._step))
        inputs = data_utils.split_initial(frames, task, time_step=self._step)
        template = data_utils.targets_template(inputs, task, steps, self._step)
        forcings = data_utils.forcings(
            frames, task, steps, self._step, known=known, lazy=False
        )
        sizes = tuple(inputs.sizes[dim] for dim in ("batch", "lat", "lon"))
        data = inputs.compute(), template.compute(), forcings.compute()
        found = self._go_on(self._function, count, sizes, *data)
        self._last = valid.values.reshape(-1, count)[:, -1]
        leads = xarray.DataArray(found["time"].values, dims="time")
        dates = valid.isel(time=-1, drop=True) + leads
        values = found.map(lambda a: a.copy(data=np.asarray(xarray_jax.unwrap_data(a))))
        return values.assign_coords(datetime=dates)

    def _check_follows(self, dates: np.ndarray) -> None:
        """Checks that frames follow each other and the last ones.

        Raises:
          ValueError: They do not.
        """
        if self._last is not None:
            if len(dates) != len(self._last):
                return  # Another batch, which is refused with the grid.
            dates = np.concatenate([self._last[:, np.newaxis], dates], axis=1)
        odd = np.argwhere(np.diff(dates, axis=1) != self._step.to_timedelta64())
        if len(odd):
            member, place = odd[0]
            before, after = (pd.Timestamp(d) for d in dates[member, place : place + 2])
            raise ValueError(
                f"datetime: the frame after {before} is of {after}, expected "
                f"{before + self._step}; fill the gap, or reset() to start anew"
            )

    def _function(self, count: int) -> hk.TransformedWithState:
        """Returns the function of some new frames, template and forcings."""
        settings = self._config.replace(input_length=count)

        def predict(
            inputs: xarray.Dataset, template: xarray.Dataset, forcings: xarray.Dataset
        ) -> xarray.Dataset:
            network = _network_of(settings)(settings)
            predictor = self._wrap(GridPredictor(settings, network, self._task))
            return predictor(inputs, template, forcings=forcings, carry=True)

        return hk.transform_with_state(predict)


def _array_function(
    model_config: FrameModelConfig, output_size: int, edges: Edges
) -> hk.TransformedWithState:
    """Returns the network as a function of arrays and its state."""
    make = _network_of(model_config)

    def predict(frames: jax.Array, known: jax.Array, static: jax.Array) -> jax.Array:
        network = make(model_config)
        return network(Fields(frames, known, static), edges, output_size, carry=True)

    return hk.transform_with_state(predict)


def _network_of(model_config: FrameModelConfig) -> Callable[..., Any]:
    if type(model_config) not in _NETWORKS:
        kinds = " and ".join(kind.__name__ for kind in _NETWORKS)
        raise ValueError(
            f"a network of {type(model_config).__name__} keeps no state from call to "
            f"call; those of {kinds} do"
        )
    return _NETWORKS[type(model_config)]


def _zeros(transformed: hk.TransformedWithState, data: tuple[Any, ...]) -> PyTree:
    """Returns the state of a function before its first call."""
    _, state = jax.eval_shape(transformed.init, jax.random.PRNGKey(0), *data)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
