"""Low-rank changes of matrices that are trained in place of the matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weatherlib.training import patterns
from weatherlib.training.init_config import AdapterConfig
from weatherlib.typing import PyTree

__all__ = ["TRAINED", "Adapted"]

_DOWN, _UP = "_adapter_a", "_adapter_b"

TRAINED = (f"*{_DOWN}", f"*{_UP}")
"""Patterns of the parameters that `Adapted` adds."""


class Adapted:
    """An objective with adapters in its parameters, which are dictionaries by module.

    Beside a matrix `w` lie `w_adapter_a` and `w_adapter_b`.

    Source: Hu et al. (2021), arXiv 2106.09685.
    """

    def __init__(
        self, objective: Any, settings: AdapterConfig, trained: Sequence[str] = ()
    ) -> None:
        """Wraps an objective.

        Args:
          objective: As `training.Trainer` takes it, perhaps with `shapes` and
            `forecast`.
          settings: Which matrices, and the rank.
          trained: Patterns of other parameters that are trained. No gradient is
            computed of the rest.
        """
        self._objective, self._settings = objective, settings
        self._trained = (*TRAINED, *trained)

    @property
    def frames_per_step(self) -> int:
        """Frames that one step predicts."""
        return self._objective.frames_per_step

    def init(self, key: jax.Array, batch: Any) -> tuple[PyTree, PyTree]:
        """Returns first parameters, adapters among them, and Haiku state.

        Raises:
          ValueError: As for `add`.
        """
        params, state = self._objective.init(key, batch)
        return self.add(params, jax.random.fold_in(key, 1)), state

    def shapes(self, batch: Any) -> tuple[PyTree, PyTree]:
        """Returns what `init` would, as shapes and types; nothing is computed."""
        params, state = self._objective.shapes(batch)
        return jax.eval_shape(self.add, params, jax.random.PRNGKey(0)), state

    def loss(
        self,
        params: PyTree,
        state: PyTree,
        key: jax.Array,
        batch: Any,
        **options: Any,
    ) -> Any:
        """Returns what the objective does with the changes added to the matrices."""
        kept = patterns.map_named(self._stopped, params)
        return self._objective.loss(self.merge(kept), state, key, batch, **options)

    def forecast(
        self, params: PyTree, state: PyTree, key: jax.Array, batch: Any
    ) -> Any:
        """Returns the forecast with the changes added to the matrices."""
        return self._objective.forecast(self.merge(params), state, key, batch)

    def add(self, params: PyTree, key: jax.Array) -> PyTree:
        """Returns parameters with adapters that change nothing yet.

        Raises:
          ValueError: A pattern fits no parameter, or one that is no matrix.
        """
        settings = self._settings
        patterns.require_matches(params, settings.patterns, "adapters.patterns")
        found, count = {}, 0
        for module, entries in params.items():
            found[module] = dict(entries)
            for name, leaf in entries.items():
                if patterns.first_match(f"{module}/{name}", settings.patterns) is None:
                    continue
                if jnp.ndim(leaf) != 2:
                    raise ValueError(
                        f"adapters.patterns: {module}/{name} of shape "
                        f"{list(jnp.shape(leaf))} is no matrix; patterns such as "
                        "'*/attn/qkv/w' name matrices"
                    )
                rows, columns = leaf.shape
                draw = jax.random.fold_in(key, count)
                bound = 1 / math.sqrt(rows)
                shape = (rows, settings.rank)
                found[module][name + _DOWN] = jax.random.uniform(
                    draw, shape, leaf.dtype, -bound, bound
                )
                found[module][name + _UP] = jnp.zeros(
                    (settings.rank, columns), leaf.dtype
                )
                count += 1
        return found

    def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """Returns the parameters of the model, and those of the adapters."""
        plain = {m: _only(entries, adapters=False) for m, entries in params.items()}
        extra = {m: _only(entries, adapters=True) for m, entries in params.items()}
        return plain, {m: entries for m, entries in extra.items() if entries}

    def join(self, params: PyTree, adapters: PyTree) -> PyTree:
        """Returns what `split` took apart."""
        return {m: {**e, **adapters.get(m, {})} for m, e in params.items()}

    def merge(self, params: PyTree) -> PyTree:
        """Returns plain parameters with the changes added.

        Args:
          params: JAX or NumPy arrays; the result has the same.
        """
        plain, adapters = self.split(params)
        for module, entries in adapters.items():
            for name in entries:
                if name.endswith(_UP):
                    continue
                base = name.removesuffix(_DOWN)
                change = entries[name] @ entries[base + _UP]
                factor = np.asarray(self._settings.factor, change.dtype)
                plain[module][base] = plain[module][base] + factor * change
        return plain

    def _stopped(self, name: str, leaf: Any) -> Any:
        if patterns.first_match(name, self._trained) is not None:
            return leaf
        return jax.lax.stop_gradient(leaf)


def _only(entries: Any, *, adapters: bool) -> dict[str, Any]:
    return {n: x for n, x in entries.items() if n.endswith((_DOWN, _UP)) == adapters}
