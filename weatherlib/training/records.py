"""What a run measured: JSON lines, CSV and TensorBoard files that survive a kill."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TextIO

from weatherlib import optional, writing

__all__ = ["Observer", "Recorder", "flatten", "read_records"]

_logger = logging.getLogger(__name__)

_JSON, _CSV = "metrics.jsonl", "metrics.csv"
_COLUMNS: tuple[str, ...] = (
    "step",
    "kind",
    "stage",
    "rollout",
    "loss",
    "gradient_norm",
    "learning_rate",
    "steps_per_second",
    "data_wait",
    "metric",
)


class Observer(Protocol):
    """Takes part in a run; every record has `step`, `kind` and numbers."""

    def begin(self, step: int, total: int) -> None:
        """Is told where a run begins, and where it ends at the latest."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Takes a record of kind "train", "validation" or "event"."""

    def close(self) -> None:
        """Is told that the run has ended, in whatever way."""


class Recorder:
    """Writes `metrics.jsonl`, `metrics.csv` and TensorBoard files in `events/`.

    When a run continues from a checkpoint, what was recorded after it is dropped, so
    that the files are those of a run without interruption.
    """

    def __init__(self, folder: pathlib.Path, *, tensorboard: bool = True) -> None:
        """Takes the folder.

        Args:
          folder: Of the run.
          tensorboard: Whether to write TensorBoard files.

        Raises:
          ImportError: tensorboardX is missing and wanted.
        """
        self._folder = folder
        self._writer_class: Any = None
        if tensorboard:
            tensorboard_x = optional.require("tensorboardX", extra="train")
            self._writer_class = tensorboard_x.SummaryWriter
        self._events: Any = None

    def begin(self, step: int, total: int) -> None:
        """Drops records after the update `step`."""
        del total
        kept = [r for r in read_records(self._folder) if r["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        _replace(self._folder / _JSON, lines)
        with (
            writing.replacing(self._folder / _CSV) as partial,
            partial.open("w", newline="", encoding="utf8") as file,
        ):
            writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        if self._writer_class is not None:
            self._events = self._writer_class(
                str(self._folder / "events"), purge_step=step + 1
            )

    def record(self, record: Mapping[str, Any]) -> None:
        """Adds a record to all files."""
        with _appending(self._folder / _JSON) as file:
            file.write(json.dumps(record) + "\n")
        with _appending(self._folder / _CSV) as file:
            csv.DictWriter(file, _COLUMNS, extrasaction="ignore").writerow(record)
        if self._events is not None:
            for name, value in flatten(record).items():
                if name not in ("step", "stage"):
                    tag = f"{record['kind']}/{name}"
                    self._events.add_scalar(tag, value, record["step"])

    def close(self) -> None:
        """Closes the TensorBoard files."""
        if self._events is None:
            return
        try:
            self._events.close()
        except OSError as error:
            # What is in the other files was told by `record`.
            _logger.warning("%s: %s", self._folder / "events", error.strerror)
        self._events = None


def read_records(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a run; a last line cut short by a kill is left out."""
    path = folder / _JSON
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of a nested record by their joined names."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
    return found


@contextlib.contextmanager
def _appending(path: pathlib.Path) -> Iterator[TextIO]:
    with writing.naming(path), path.open("a", newline="", encoding="utf8") as file:
        yield file


def _replace(path: pathlib.Path, text: str) -> None:
    with writing.replacing(path) as partial:
        partial.write_text(text, encoding="utf8")
