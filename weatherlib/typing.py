"""Type aliases that several modules share. Nothing here imports JAX or xarray."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

__all__ = ["PathLike", "PyTree"]

PathLike: TypeAlias = str | os.PathLike[str]
"""A file or folder on this machine."""

PyTree: TypeAlias = Any
"""Nested containers whose leaves are arrays."""
