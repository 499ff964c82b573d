"""Sizes of the task that the models of several frames are compared on."""

import dataclasses

__all__ = ["Task"]


@dataclasses.dataclass(frozen=True)
class Task:
    """Sizes of what goes in and comes out."""

    channels: int = 1
    rows: int = 32
    columns: int = 64
    input_length: int = 12
    output_length: int = 4

    @property
    def features(self) -> int:
        """Numbers in a frame."""
        return self.channels * self.rows * self.columns
