"""The scripts of examples/ as modules."""

import importlib.util
import pathlib
import types

FOLDER = pathlib.Path(__file__).parents[2] / "examples"


def load(name: str) -> types.ModuleType:
    """Returns the script of this name, imported anew."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
