"""One update of the weights as a compiled function of state and batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from weatherlib.diffusion import ema as averages
from weatherlib.training import running_statistics
from weatherlib.typing import PyTree

__all__ = ["LossFunction", "TrainState", "Update", "first_state"]

LossFunction = Callable[..., tuple[jax.Array, tuple[Mapping[str, jax.Array], PyTree]]]
"""From parameters, Haiku state, key and batch to loss, diagnostics and new state.

Keyword arguments are the options of a stage, if it has any.
"""


class TrainState(NamedTuple):
    """All that an update reads and writes.

    Attributes:
      params: Parameters.
      model_state: Haiku state.
      optimizer: State of the optax transform.
      average: Running average of the parameters; an empty tuple where none is kept.
      step: Updates made, int32.
      key: Random key of the run; each update folds its number in.
      failed: The update, from 1, whose loss or gradient was no number; 0 for none. From
        then on nothing changes any more.
    """

    params: PyTree
    model_state: PyTree
    optimizer: PyTree
    average: PyTree
    step: jax.Array
    key: jax.Array
    failed: jax.Array

    @property
    def best_params(self) -> PyTree:
        """The averaged parameters, or the parameters where no average is kept."""
        return self.average if jax.tree.leaves(self.average) else self.params


def first_state(
    params: PyTree,
    model_state: PyTree,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    *,
    ema: float = 0.0,
) -> TrainState:
    """Returns the state before the first update.

    Args:
      params: First parameters.
      model_state: First Haiku state.
      optimizer: Makes its own first state.
      key: Random key of the run.
      ema: Decay of the running average; 0 keeps none.
    """
    return TrainState(
        params=params,
        model_state=model_state,
        optimizer=optimizer.init(params),
        # Buffers are donated, so the average needs its own.
        average=jax.tree.map(jnp.copy, params) if ema else (),
        step=jnp.zeros((), jnp.int32),
        key=jnp.copy(key),
        failed=jnp.zeros((), jnp.int32),
    )


class Update:
    """The compiled update of one stage.

    Attributes:
      names: What the vector of numbers holds that an update returns, known after the
        first call: "loss", "gradient_norm" and the diagnostics of the loss.
      traces: How often it was traced.
    """

    def __init__(
        self,
        loss: LossFunction,
        optimizer: optax.GradientTransformation,
        *,
        ema: float = 0.0,
        jit_options: Mapping[str, Any] | None = None,
        constrain: Callable[[TrainState], TrainState] | None = None,
        options: Callable[[jax.Array], Mapping[str, Any]] | None = None,
    ) -> None:
        """Takes the parts; nothing is compiled before the first call.

        Args:
          loss: Of one batch.
          optimizer: From gradients to changes. Running statistics of batch
            normalisation are kept beside it, as `running_statistics.follow` says.
          ema: Decay of the running average, which grows to it from 2/11, so that the
            first weights are forgotten soon; see `diffusion.ema`.
          jit_options: More options of `jax.jit`, such as `out_shardings`.
          constrain: Applied to the new state while the update is traced, to keep it
            where the old one is.
          options: Keyword arguments of the loss by the number of updates made, which is
            traced. None gives none.
        """
        self._options = options or (lambda step: {})
        self._constrain = constrain or (lambda state: state)
        self._loss = loss
        self._optimizer = running_statistics.follow(optimizer)
        self._ema = ema
        self.names: tuple[str, ...] = ()
        self.traces = 0
        compiling = {"donate_argnums": 0, **(jit_options or {})}
        self._compiled = jax.jit(self._update, **compiling)

    def __call__(
        self, state: TrainState, parts: Sequence[Any]
    ) -> tuple[TrainState, jax.Array]:
        """Returns the state after an update, and its numbers in the order of `names`.

        Args:
          state: Must not be used afterwards: its buffers are taken over.
          parts: The batch, in one or more parts whose gradients are averaged.
        """
        return self._compiled(state, tuple(parts))

    def _update(
        self, state: TrainState, parts: tuple[Any, ...]
    ) -> tuple[TrainState, jax.Array]:
        self.traces += 1
        key = jax.random.fold_in(state.key, state.step)
        loss, diagnostics, model_state, gradient = self._gradient(state, key, parts)
        trained = jax.tree.leaves(running_statistics.without(gradient))
        squares = [jnp.sum(jnp.square(leaf)) for leaf in trained]
        norm = jnp.sqrt(sum(squares, jnp.zeros(())))
        changes, optimizer = self._optimizer.update(
            gradient, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, changes)
        average = state.average
        if jax.tree.leaves(average):
            # What is frozen stays the same to the last bit.
            held = averages.Average(average, state.step)
            average = averages.update(held, params, self._ema).params
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & (state.failed == 0)
        step = state.step + 1
        after = TrainState(
            params, model_state, optimizer, average, step, state.key, state.failed
        )
        failed = jnp.where(state.failed == 0, step, state.failed)
        before = state._replace(failed=failed)
        # What failed is not kept, so that the state can be looked into.
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
        numbers = {"loss": loss, "gradient_norm": norm, **diagnostics}
        self.names = tuple(numbers)
        vector = [jnp.asarray(value, jnp.float32) for value in numbers.values()]
        return self._constrain(kept), jnp.stack(vector)

    def _gradient(
        self, state: TrainState, key: jax.Array, parts: tuple[Any, ...]
    ) -> tuple[jax.Array, Mapping[str, jax.Array], PyTree, PyTree]:
        """Returns loss, diagnostics, Haiku state and gradient, averaged over parts."""
        loss = functools.partial(self._loss, **self._options(state.step))
        differentiate = jax.value_and_grad(loss, has_aux=True)
        if len(parts) == 1:
            (loss, (diagnostics, model_state)), gradient = differentiate(
                state.params, state.model_state, key, parts[0]
            )
            return loss, diagnostics, model_state, gradient
        leaves = [jax.tree.flatten(part) for part in parts]
        structure = leaves[0][1]
        stacked = [jnp.stack(same) for same in zip(*(found for found, _ in leaves))]

        def one(model_state: PyTree, given: tuple[Any, Any]) -> tuple[PyTree, Any]:
            number, part = given
            (loss, (diagnostics, model_state)), gradient = differentiate(
                state.params,
                model_state,
                jax.random.fold_in(key, number),
                jax.tree.unflatten(structure, part),
            )
            return model_state, (loss, dict(diagnostics), gradient)

        return self._averaged(one, state.model_state, (jnp.arange(len(parts)), stacked))

    def _averaged(self, one: Any, model_state: PyTree, given: Any) -> Any:
        """Returns the means over parts, adding up so that one gradient is held."""

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            model_state, total = carry
            model_state, found = one(model_state, part)
            return (model_state, jax.tree.map(jnp.add, total, found)), None

        first = jax.tree.map(lambda x: x[0], given)
        shapes = jax.eval_shape(one, model_state, first)[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (model_state, total), _ = jax.lax.scan(add, (model_state, zeros), given)
        count = len(given[0])
        loss, diagnostics, gradient = jax.tree.map(lambda x: x / count, total)
        return loss, diagnostics, model_state, gradient
