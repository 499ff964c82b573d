"""What can be wrong with a file of weights. Each is a `ValueError` with one line."""

from __future__ import annotations

__all__ = [
    "CarriesCodeError",
    "DamagedError",
    "LegacyTorchError",
    "MismatchError",
    "TooLargeError",
    "UnsupportedError",
    "WeightsFileError",
    "WrongFormatError",
    "printable",
]


def printable(text: str) -> str:
    """Returns a text of a file on one line, without what could steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


class WeightsFileError(ValueError):
    """A file of weights that is not read; the message begins with its path."""


class WrongFormatError(WeightsFileError):
    """The file is of another format altogether."""


class LegacyTorchError(WrongFormatError):
    """The file is of the formats of torch before 1.6, which only pickle could read."""


class DamagedError(WeightsFileError):
    """The file is cut short, or contradicts itself."""


class CarriesCodeError(WeightsFileError):
    """Reading the file as torch does would run something that the file names."""


class UnsupportedError(WeightsFileError):
    """The file holds something sound that is not read, such as a sparse tensor."""


class TooLargeError(WeightsFileError):
    """The file claims more than its length or any model can account for."""


class MismatchError(ValueError):
    """Names or shapes of weights differ from what was asked for.

    The differences stand in the notes of the exception, one a line, and apart here.

    Attributes:
      missing: Shape of each array that is lacking, by its name in the file.
      extra: Shape of each array that nothing asks for.
      misshapen: Shape found and shape wanted of each array that is there.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: dict[str, tuple[int, ...]] | None = None,
        extra: dict[str, tuple[int, ...]] | None = None,
        misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None,
    ) -> None:
        super().__init__(message)
        self.missing = missing or {}
        self.extra = extra or {}
        self.misshapen = misshapen or {}
        for name, shape in self.missing.items():
            self.add_note(f"missing    {name} {list(shape)}")
        for name, shape in self.extra.items():
            self.add_note(f"extra      {name} {list(shape)}")
        for name, (found, wanted) in self.misshapen.items():
            self.add_note(f"misshapen  {name} {list(found)}, wanted {list(wanted)}")
