"""Packages that only some functions need, imported when one of them is called."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import pathlib
import shlex
import urllib.parse
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
        target = _with_extra(extra) if extra else module.partition(".")[0]
        raise ImportError(
            f"{module} could not be imported ({error}). "
            f"Install it with: pip install {target}",
            name=module,
        ) from error


def _with_extra(extra: str) -> str:
    """Returns what pip installs this package with an extra from.

    That is the folder of a clone, where it was installed from one.
    """
    # In the folder of a clone its own metadata, without a note of pip, come first.
    known = importlib.metadata.distributions(name="weatherlib")
    notes = filter(None, (found.read_text("direct_url.json") for found in known))
    source = json.loads(next(notes, "{}"))
    url = urllib.parse.urlsplit(source.get("url", ""))
    folder = urllib.parse.unquote(url.path)
    if url.scheme != "file" or not pathlib.Path(folder, "setup.py").is_file():
        return f"'weatherlib[{extra}]'"
    editable = source.get("dir_info", {}).get("editable", False)
    return f"{'-e ' if editable else ''}{shlex.quote(f'{folder}[{extra}]')}"
