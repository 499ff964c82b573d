"""State of a run on disk, through orbax: the last few, and the best."""

from __future__ import annotations

import logging
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax

from weatherlib import optional, writing
from weatherlib.training import patterns
from weatherlib.training.placement import Placement
from weatherlib.typing import PyTree

__all__ = ["Checkpoints", "holds_run", "require_new"]

_logger = logging.getLogger(__name__)

_SIGNATURE = "signature"
_PROBE, _PROBE_BYTES = "room", 4096


class Checkpoints:
    """The checkpoints of one run, in `last/` and `best/` below its folder.

    Saving returns when the state has been copied; files are written behind it and
    count only when complete. A failed write is reported by the next call, and leaves
    the earlier checkpoints as they are. Several processes call everything together, and
    see the same folder; each writes its part.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        keep: int = 2,
        placement: Placement | None = None,
    ) -> None:
        """Opens or makes the folders.

        Args:
          folder: Of the run.
          keep: How many of the last checkpoints stay.
          placement: The processes.

        Raises:
          ImportError: orbax is missing.
        """
        self._orbax = optional.require("orbax.checkpoint", extra="train")
        self._folder = folder.absolute()
        self._keep = keep
        self._placement = placement or Placement()
        self._managers: dict[str, Any] = {}
        self._complete: int | None = None
        self._pending: tuple[str, int] | None = None

    def save(
        self, step: int, state: PyTree, host: Mapping[str, Any], *, wait: bool = False
    ) -> None:
        """Begins to write the state after an update.

        Args:
          step: Updates made.
          state: Arrays.
          host: What JSON can hold.
          wait: Whether to return only when it is complete.

        Raises:
          OSError: This or the checkpoint before could not be written.
        """
        described = {**host, _SIGNATURE: patterns.describe(state)}
        args = self._orbax.args
        self._finish()
        self._pending = ("last", step)
        try:
            self._require_room(state)
            self._manager("last", self._keep).save(
                step,
                args=args.Composite(
                    state=args.StandardSave(state), host=args.JsonSave(described)
                ),
            )
        except Exception as error:
            raise self._failure(error) from error
        if wait:
            self._finish()

    def save_best(self, step: int, tree: PyTree) -> None:
        """Begins to write weights that are better than all before.

        Raises:
          OSError: They could not be written.
        """
        self._finish()
        self._pending = ("best", step)
        manager = self._manager("best", 1)
        args = self._orbax.args
        try:
            self._require_room(tree)
            # A run that goes on from an earlier checkpoint makes the same one again.
            for existing in manager.all_steps():
                if existing >= step:
                    manager.delete(existing)
            manager.save(step, args=args.Composite(state=args.StandardSave(tree)))
        except Exception as error:
            raise self._failure(error) from error

    def restore(self, like: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Returns the last complete state and what was kept with it, or None.

        Folders that are incomplete or damaged are moved to `damaged/` with a warning.

        Args:
          like: A state of the same structure, with the placement that is wanted.

        Raises:
          ValueError: The checkpoint is of a model of other names or shapes.
        """
        if self._placement.is_main:
            self._set_aside_partial()
        self._placement.wait("partial checkpoints")
        expected = patterns.describe(like)
        abstract = jax.tree.map(self._orbax.utils.to_shape_dtype_struct, like)
        for step in sorted(_numbered(self._folder / "last"), reverse=True):
            path = self._folder / "last" / str(step)
            host = self._read(step, "host", self._orbax.args.JsonRestore())
            if host is None:
                continue
            _require_same(path, expected, host.pop(_SIGNATURE))
            restore = self._orbax.args.StandardRestore(abstract)
            state = self._read(step, "state", restore)
            if state is None:
                continue
            self._complete = step
            # Arrays on the host may share memory with what orbax holds.
            return jax.tree.map(lambda x: x.copy(), state), host
        return None

    def wait(self) -> None:
        """Returns when everything is written.

        Raises:
          OSError: Something could not be written.
        """
        self._finish()

    def close(self) -> None:
        """Waits and ends the threads that write; reports no failure."""
        for manager in self._managers.values():
            try:
                manager.close()
            except Exception as error:
                _logger.warning("%s", self._failure(error))
        self._managers.clear()

    def _manager(self, name: str, keep: int) -> Any:
        if name not in self._managers:
            options = self._orbax.CheckpointManagerOptions(
                max_to_keep=keep, create=True
            )
            self._managers[name] = self._orbax.CheckpointManager(
                self._folder / name, options=options
            )
        return self._managers[name]

    def _require_room(self, state: PyTree) -> None:
        """Checks that a state can be written before anything is begun.

        Raises:
          OSError: The disk has no room, or nothing can be written at all.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise OSError(
                f"it takes {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
            )
        # A quota or a limit shows only when something is written.
        probe = self._folder / f"{_PROBE}.{os.getpid()}"
        try:
            with writing.naming(probe):
                probe.write_bytes(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)

    def _read(self, step: int, item: str, how: Any) -> Any:
        """Returns a part of a checkpoint, or None after setting a damaged one aside."""
        composite = self._orbax.args.Composite(**{item: how})
        found, failure = None, None
        try:
            manager = self._manager("last", self._keep)
            found = manager.restore(step, args=composite)[item]
            if item == "host" and _SIGNATURE not in found:
                raise ValueError(f"it lacks {_SIGNATURE}")
        except Exception as error:
            failure = error
        if self._placement.agree(failure is not None):
            reason = failure or OSError("another process could not read it")
            self._set_aside(self._folder / "last" / str(step), reason)
            return None
        return found

    def _finish(self) -> None:
        try:
            for manager in self._managers.values():
                manager.wait_until_finished()
        except Exception as error:
            raise self._failure(error) from error
        if self._pending is not None:
            kind, step = self._pending
            # Only from the last ones does a run go on.
            self._complete = step if kind == "last" else self._complete
            self._pending = None

    def _failure(self, error: Exception) -> OSError:
        kept = (
            "there is no earlier one"
            if self._complete is None
            else f"that of update {self._complete} is complete; make room and continue "
            "the run with --resume"
        )
        failed = "unknown" if self._pending is None else self._pending[1]
        self._pending = None
        reason = str(error).strip().split("\n")[0]
        return OSError(
            f"{self._folder}: the checkpoint of update {failed} could not be written "
            f"({reason}); {kept}"
        )

    def _set_aside_partial(self) -> None:
        """Moves away folders that a killed process left half written."""
        for kind in ("last", "best"):
            parent = self._folder / kind
            for path in parent.iterdir() if parent.is_dir() else ():
                unfinished = "orbax-checkpoint-tmp" in path.name or (
                    path.name.isdigit() and not (path / "_CHECKPOINT_METADATA").exists()
                )
                if path.is_dir() and unfinished:
                    self._set_aside(path, None)

    def _set_aside(self, path: pathlib.Path, error: Exception | None) -> None:
        reason = "is incomplete" if error is None else "cannot be read"
        detail = "" if error is None else f" ({str(error).strip().splitlines()[0]})"
        target = self._folder / "damaged" / f"{path.parent.name}-{path.name}"
        if target.exists():
            target = target.with_name(f"{target.name}-{time.time_ns()}")
        if self._placement.is_main:
            target.parent.mkdir(exist_ok=True)
            shutil.move(path, target)
        # The manager remembers which steps there were.
        manager = self._managers.pop(path.parent.name, None)
        if manager is not None:
            manager.close()
        warnings.warn(
            f"{path} {reason}{detail} and is not used; moved to {target}", stacklevel=3
        )


def holds_run(folder: pathlib.Path) -> bool:
    """Returns whether a run in a folder has begun: has a checkpoint, or a result."""
    return bool(_numbered(folder / "last")) or (folder / "checkpoint.npz").exists()


def require_new(folder: pathlib.Path) -> None:
    """Checks that a folder holds no run, complete or not.

    Raises:
      FileExistsError: It does.
    """
    steps = _numbered(folder / "last")
    if steps:
        raise FileExistsError(
            f"{folder}: holds a run of {max(steps)} updates; continue it with "
            "--resume (resume=True), or choose another output"
        )


def _numbered(folder: pathlib.Path) -> list[int]:
    if not folder.is_dir():
        return []
    return [int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit()]


def _require_same(path: pathlib.Path, expected: Any, found: Any) -> None:
    differences = patterns.compare(expected, found)
    if differences:
        lines = "\n  ".join(differences)
        raise ValueError(
            f"{path}: the checkpoint is of another model or optimiser:\n  {lines}\n"
            "Continue with the configuration it was made with, or choose another output"
        )
