"""What a configuration file of nowcasts asks for, whichever kind it is."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, TypeVar

from weatherlib import config as configs
from weatherlib import training
from weatherlib.cli import (
    families,
    nowcast_keys,
    nowcast_networks,
    nowcast_settings,
    nowcast_weights,
    nowcasters,
    nowcasting,
    radar_frames,
    settings,
)

__all__ = ["Job"]

_T = TypeVar("_T")


class Job:
    """What a configuration file asks for, whichever kind it is.

    Attributes:
      stage: What is trained or tested.
      published: The file, where it is of the published kind.
    """

    def __init__(
        self,
        path: str,
        stage: str | None,
        changes: Sequence[str],
        data: str | None = None,
    ) -> None:
        """Reads a file.

        Args:
          path: The file.
          stage: One of `nowcast_settings.STAGES`; None takes what the file is for.
          changes: `key=value` of the file, or of the settings of the training.
          data: In place of the data that the file names.

        Raises:
          FileNotFoundError: There is none.
          ValueError: It is no YAML, or has an unknown key or a wrong value.
        """
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(
                f"{path}: the configuration does not exist; examples/configs holds "
                "some, and --cfg names one"
            )
        values = settings.read_values(path)
        self._path, self._changes, self._data = path, list(changes), data
        self.published: nowcast_keys.Published | None = None
        if not nowcast_keys.is_published(values):
            family = str((values.get("model") or {}).get("family"))
            names = {name: key for key, name in nowcast_settings.STAGES.items()}
            self.stage = names.get(family, family)
            if stage not in (None, self.stage):
                raise ValueError(f"{path}: trains {self.stage}, not --stage {stage}")
            return
        for word in changes:
            if nowcast_keys.is_published_key(word.partition("=")[0]):
                settings.change(values, word)
                self._changes.remove(word)
        try:
            given = nowcast_keys.read_published(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        self.published = given if data is None else given.with_data(data)
        self.stage = stage or given.stage

    def check(self) -> None:
        """Makes sure that the whole file can be followed, whatever it is used for.

        Raises:
          ValueError: A value is wrong, or a network cannot be made.
        """
        if self.published is None:
            return
        config = self._read(training.TrainConfig, self._settings())
        try:
            families.find_family(config.model)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def config(self) -> training.TrainConfig:
        """Returns the settings of the training.

        Raises:
          ValueError: A value is wrong, or the data do not fit.
          OSError: The data cannot be read.
        """
        if self.published is not None:
            values = self._settings(self._train_samples())
            return self._read(training.TrainConfig, values)
        config = settings.read(training.TrainConfig, self._path, self._changes)
        if self._data is None:
            return config
        return config.replace(data=config.data.replace(path=self._data))

    def data(self) -> training.DataConfig:
        """Returns the settings of the data.

        Raises:
          ValueError: A value is wrong.
        """
        if self.published is None:
            return nowcasting.read_data(self._path, self._data, self._changes)
        return self._read(training.DataConfig, self._settings()["data"])

    def output(self) -> pathlib.Path:
        """Returns the folder of the stage."""
        if self.published is None:
            return self.config().output
        return pathlib.Path(self._settings()["output"])

    def checkpoints(self, folder: str) -> dict[str, pathlib.Path]:
        """Returns what is tested by name: the stage, and a ConvLSTM beside it.

        Args:
          folder: For a checkpoint that is made of published weights.

        Raises:
          FileNotFoundError: The file that is named is not there.
          ValueError: It is not of the sizes of the file.
        """
        found = {self.stage: self.output() / "checkpoint.npz"}
        given = self.published
        if given is None:
            return found
        named = given.get("summary.ckpt_path")
        if self.stage == "denoiser" and named:
            place = f"{self._path}: summary.ckpt_path"
            if not pathlib.Path(named).exists():
                raise FileNotFoundError(
                    f"{place}: {named} does not exist; without it, what this file "
                    f"trains is tested, {found[self.stage]}"
                )
            model = self._settings()["model"]
            found[self.stage] = nowcast_weights.as_checkpoint(
                place, named, model, folder
            )
        beside = nowcast_settings.output_of(given, "convlstm")
        if (beside / "checkpoint.npz").is_file():
            found["convlstm"] = beside / "checkpoint.npz"
        return found

    def guide(
        self, text: str | None, path: str | None, folder: str
    ) -> nowcasters.Guide | None:
        """Returns what members are guided by: `--guide` and `--alignment`.

        Args:
          text: Of the guide; None is none.
          path: The network; None takes what the file names, or else has trained.
          folder: For a checkpoint that is made of published weights.

        Raises:
          FileNotFoundError: The network is not there.
          ValueError: No network is named, or the text is no guide.
        """
        if text is None:
            return None
        given, place = self.published, "--alignment"
        if given is not None:
            text = text or str(given.get("align.guide_scale", 50.0))
            trained = nowcast_settings.output_of(given, "alignment")
            named = given.get("align.model_ckpt_path")
            if path is None and named and pathlib.Path(named).exists():
                path, place = named, f"{self._path}: model.align.model_ckpt_path"
            elif path is None and trained.is_dir():
                path = str(trained)
            elif path is None and named:
                raise FileNotFoundError(
                    f"{self._path}: model.align.model_ckpt_path: {named} does not "
                    "exist; train --stage alignment, or name a network with --alignment"
                )
        if not path:
            raise ValueError(
                "--guide: needs a trained alignment network; train --stage alignment, "
                "or name one with --alignment"
            )
        guide = nowcasters.Guide.parse(text or "50", path)
        # Checkpoints know their sizes, and are opened with the models that are guided.
        if given is None or nowcast_weights.is_checkpoint(guide.path):
            return guide
        model = nowcast_settings.stage_model(given, "alignment")
        made = nowcast_weights.as_checkpoint(place, guide.path, model, folder)
        return dataclasses.replace(guide, path=str(made))

    def _read(self, kind: type[_T], values: dict[str, Any]) -> _T:
        """Returns settings of a kind, whose errors name the file.

        Raises:
          ValueError: A value is wrong.
        """
        try:
            return configs.from_dict(kind, values)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def _settings(self, samples: int = 1) -> dict[str, Any]:
        """Returns the settings of a training on so many samples; errors name the file.

        Raises:
          ValueError: A value is wrong.
        """
        assert self.published is not None
        try:
            return nowcast_settings.run_settings(
                self.published,
                self.stage,
                samples=samples,
                autoencoder=nowcast_networks.autoencoder_path(self.published),
                changes=self._changes,
            )
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def _train_samples(self) -> int:
        """Returns how many samples there are, each counted in all ways."""
        data, given = self.data(), self.published
        assert given is not None
        targets = nowcast_settings.frames_of(given, self.stage)[1]
        frames = radar_frames.RadarFrames(data)
        return len(frames.starts(data.train, targets=targets))
