"""What checks the types of arguments and results while tests run."""

import beartype

__all__ = ["check"]


def check(function):
    """Returns a function or class that checks its types, by beartype.

    Functions inside of others are left as they are: they are made anew at each call,
    and preparing the checks takes longer than most of them.
    """
    if "<locals>" in getattr(function, "__qualname__", ""):
        return function
    return beartype.beartype(function)
