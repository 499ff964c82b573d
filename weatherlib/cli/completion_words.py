"""Words that options take and their types do not tell, for completion in the shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["FETCHED_BY", "words_of"]

FETCHED_BY = ("list", "fetch", "path")
"""Actions of `weatherlib weights` that take the name of published files, and no file.
"""


def words_of(command: str, name: str) -> tuple[str, ...]:
    """Returns the words that an option takes; empty where there are no known ones.

    Args:
      command: The command.
      name: Name of the field that the option sets.
    """
    find = _WORDS.get((command, name)) or _WORDS.get(("", name))
    return () if find is None else tuple(dict.fromkeys(find()))


def _published() -> Iterable[str]:
    from weatherlib import hub

    return hub.entries()


def _families() -> Iterable[str]:
    from weatherlib import hub

    return [entry.family for entry in hub.entries().values()]


def _metrics() -> Iterable[str]:
    from weatherlib.evaluation import metrics

    return metrics.NAMES


def _references() -> Iterable[str]:
    from weatherlib import evaluation

    return (*evaluation.REFERENCES, "none")


def _nowcast_references() -> Iterable[str]:
    from weatherlib.cli import nowcasting

    return (*nowcasting.REFERENCES, "none")


def _regions_of_scores() -> Iterable[str]:
    from weatherlib import evaluation

    return (*evaluation.REGIONS, "land", "sea")


def _regions_of_maps() -> Iterable[str]:
    from weatherlib import plotting

    return plotting.REGIONS


def _tasks() -> Iterable[str]:
    from weatherlib import task

    return [n for n, t in vars(task).items() if isinstance(t, task.TaskConfig)]


def _variables() -> Iterable[str]:
    from weatherlib import variables

    return variables.names()


def _derived() -> Iterable[str]:
    from weatherlib import data

    # Names in capitals stand for numbers.
    return [name for name in data.DERIVABLE if name == name.lower()]


# By command, or "" for all of them, and field.
_WORDS: dict[tuple[str, str], Callable[[], Iterable[str]]] = {
    ("evaluate", "metrics"): _metrics,
    ("evaluate", "references"): _references,
    ("evaluate", "regions"): _regions_of_scores,
    ("nowcast", "references"): _nowcast_references,
    ("plot", "metric"): _metrics,
    ("plot", "region"): _regions_of_maps,
    ("predict", "derive"): _derived,
    ("stats", "task"): _tasks,
    ("weights", "family"): _families,
    ("weights", "name"): _published,
    ("", "var"): _variables,
    ("", "variables"): _variables,
}
