"""Packages that only some functions need, imported when one of them is called."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(module: str, *, extra: str | None = None) -> ModuleType:
    """Returns the imported module, or says how to install it.

    Args:
      module: Dotted name of the module, such as "cfgrib".
      extra: Extra of this package that installs it, such as "grib". Without one, the
        message names the module's own top-level package.

    Raises:
      ImportError: The module, or something it needs, is not installed. The message
        holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        target = f"'weatherlib[{extra}]'" if extra else module.partition(".")[0]
        raise ImportError(
            f"{module} could not be imported ({error}). "
            f"Install it with: pip install {target}",
            name=module,
        ) from error
