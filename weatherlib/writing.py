"""Files that appear only when they are complete, and errors that say which file."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator

from weatherlib.typing import PathLike

__all__ = ["naming", "replacing"]


@contextlib.contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Names the file in errors that do not, such as that of a full disk.

    Args:
      path: What is written inside.
    """
    try:
        yield
    except OSError as error:
        if error.strerror and error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def replacing(path: PathLike, *, shared: bool = False) -> Iterator[pathlib.Path]:
    """Gives the name to write to, NAME.partial, which becomes `path` at the end.

    After an error it is removed, and what was there before stays.

    Args:
      path: The file, which is replaced if it exists.
      shared: Whether other processes or threads may write the same file at this
        moment; the numbers of this one are then in the name.

    Raises:
      OSError: It cannot be written; the error names it.
    """
    path = pathlib.Path(path)
    number = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    partial = path.with_name(f"{path.name}{number}.partial")
    try:
        with naming(path):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
