"""What a command prints while it works: stages with their times, progress and tables.

On a terminal the progress bar moves; in a log file it becomes a line now and then.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress

__all__ = [
    "Console",
    "Progress",
    "Steps",
    "TrainingDisplay",
    "error_lines",
    "format_seconds",
    "what_next",
]

Progress = Callable[[int, int, float], None]

Steps = Callable[[int, int], None]
"""Takes the steps done and those in all."""

_LINE_SECONDS = 30.0  # Between lines of a training where there is no terminal.
_MOST_SECONDS = 600.0  # Between lines on the steps of something inside a run.
_LINES = 8  # Progress lines of one run where the output is not a terminal.


class Console:
    """Prints results and keeps the time of each stage.

    Attributes:
      seconds: Name of each stage so far and how long it took. Stages of one name add
        up.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """Prints to the standard output.

        Args:
          quiet: Prints nothing, for all processes of a run but one.
        """
        self._rich = rich.console.Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.seconds: dict[str, float] = {}
        self._bar: rich.progress.Progress | None = None

    def print(self, text: str = "") -> None:
        """Prints text as it is."""
        self._rich.print(text, markup=False)

    def heading(self, text: str) -> None:
        """Prints the title of a part."""
        self._rich.print()
        self._rich.print(text, style="bold", markup=False)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """Prints names and values in two columns, the second folded where long."""
        width = max((len(name) for name, _ in facts), default=0)
        room = max(shutil.get_terminal_size((100, 24)).columns - width - 4, 40)
        for name, value in facts:
            lines = textwrap.wrap(
                value, room, break_long_words=False, break_on_hyphens=False
            )
            self.print(f"  {name:{width}}  {lines[0] if lines else ''}")
            for line in lines[1:]:
                self.print(f"  {'':{width}}  {line}")

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to that of the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def split_stage(self, name: str, part: str, seconds: float) -> None:
        """Counts some of the time of a stage under a name of its own."""
        self.seconds[part] = seconds
        self.seconds[name] = self.seconds.pop(name, 0.0) - seconds

    def print_times(self) -> None:
        """Prints how long each stage took."""
        total = format_seconds(sum(self.seconds.values()))
        parts = [f"{name} {format_seconds(s)}" for name, s in self.seconds.items()]
        self.print(f"Time: {', '.join(parts)}; {total} in all")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table, its first column to the left and the others to the right."""
        widths = [max(map(len, column)) for column in zip(columns, *rows)]
        for number, row in enumerate((columns, *rows)):
            cells = [f"{row[0]:{widths[0]}}"]
            cells += [f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:])]
            style = "bold" if number == 0 else None
            self._rich.print("  " + "  ".join(cells), style=style, markup=False)

    def print_columns(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Prints a table of words, all of its columns to the left."""
        widths = [max(map(len, column)) for column in zip(columns, *rows)]
        for number, row in enumerate((columns, *rows)):
            line = "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths))
            style = "bold" if number == 0 else None
            self._rich.print(line.rstrip(), style=style, markup=False)

    @contextlib.contextmanager
    def downloads(self) -> Iterator[Callable[[str, int, int, float], None]]:
        """Yields a function that takes a file, its bytes here and in all, and seconds.

        On a terminal each file has a bar; elsewhere, a line when it is complete.
        """
        if not self._rich.is_terminal:

            def tell(name: str, done: int, total: int, seconds: float) -> None:
                if done == total:
                    self.print(f"{name}: {done:,} bytes, {format_seconds(seconds)}")

            yield tell
            return
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.DownloadColumn(),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        with rich.progress.Progress(*columns, console=self._rich) as bar:
            tasks: dict[str, rich.progress.TaskID] = {}

            def update(name: str, done: int, total: int, seconds: float) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=total or None)
                bar.update(tasks[name], completed=done, total=total or None)

            yield update

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Progress]:
        """Yields a function that takes the steps done, those in all, and seconds."""
        if not self._rich.is_terminal:
            yield _line_progress(self.print, what)
            return
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[rate]}"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        with rich.progress.Progress(*columns, console=self._rich) as bar:
            task = bar.add_task(what, total=total, rate="")
            self._bar = bar
            try:
                yield lambda done, total, seconds: bar.update(
                    task, completed=done, total=total
                )
            finally:
                self._bar = None

    def steps(self, what: str) -> Steps:
        """Returns a function to be told the steps of what is done many times in a run.

        Below the bar of `progress` it has one of its own, with rate and time left,
        which is gone when the last step is done. Where there is no bar it prints a line
        when half a minute has passed, and then more and more seldom.
        """
        display = _StepDisplay(self.print, lambda: self._bar, what)
        return display.update

    @contextlib.contextmanager
    def training(self) -> Iterator[TrainingDisplay]:
        """Yields a bar with rate, time left and losses; lines where no terminal is."""
        with TrainingDisplay(self._rich) as display:
            yield display


class TrainingDisplay:
    """Shows how a training goes on: a live line, or a line now and then."""

    def __init__(self, console: rich.console.Console) -> None:
        columns = (
            rich.progress.TextColumn("Updates"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[numbers]}"),
            rich.progress.TimeElapsedColumn(),
        )
        self._console = console
        self._bar = rich.progress.Progress(*columns, console=console)
        self._task: rich.progress.TaskID | None = None
        self._printed = 0.0

    def __enter__(self) -> TrainingDisplay:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def begin(self, step: int, total: int) -> None:
        """Sets where the run begins and ends."""
        if step:
            self.note([f"continuing after update {step} of {total}"])
        self._total = total
        self._task = self._bar.add_task(
            "", total=total, completed=step, numbers="compiling"
        )

    def update(self, record: Mapping[str, Any]) -> None:
        """Shows a record of updates."""
        numbers = f"loss {record['loss']:.4g}"
        if record["steps_per_second"]:
            left = format_seconds(record["seconds_left"])
            numbers += f"  {record['steps_per_second']:.3g}/s  {left} left"
        step = record["step"]
        if self._console.is_terminal and self._task is not None:
            self._bar.update(self._task, completed=step, numbers=numbers)
            return
        now = time.monotonic()
        if now - self._printed >= _LINE_SECONDS or step == self._total:
            self._printed = now
            self.note([f"update {step} of {self._total}  {numbers}"])

    def note(self, lines: Sequence[str]) -> None:
        """Prints lines that stay."""
        for line in lines:
            self._console.print(line, markup=False, highlight=False)


class _StepDisplay:
    """Shows steps of something that is done again and again."""

    def __init__(
        self,
        show: Callable[[str], None],
        bar: Callable[[], rich.progress.Progress | None],
        what: str,
    ) -> None:
        self._show, self._bar, self._what = show, bar, what
        self._total = self._done = self._first = 0
        self._began, self._told, self._wait = 0.0, time.monotonic(), _LINE_SECONDS
        self._task: tuple[rich.progress.Progress, rich.progress.TaskID] | None = None

    def update(self, done: int, total: int) -> None:
        """Shows that so many steps of all are done; they may come in any order."""
        now = time.monotonic()
        is_over = self._done >= self._total
        is_new = total != self._total or (is_over and done <= max(total // 2, 1))
        if is_new:
            self._total, self._done, self._first = total, 0, done
            self._began = now
        if done <= self._done:
            return
        self._done = done
        passed = done - self._first
        rate = passed / (now - self._began) if now > self._began else 0.0
        bar = self._bar()
        if bar is not None:
            self._draw(bar, rate, is_new=is_new)
        elif now - self._told >= self._wait and rate and done < total:
            self._told, self._wait = now, min(2 * self._wait, _MOST_SECONDS)
            left = format_seconds((total - done) / rate)
            said = f"step {done} of {total}, {rate:.3g}/s, about {left} to go"
            self._show(f"{self._what}: {said}")

    def _draw(self, bar: rich.progress.Progress, rate: float, *, is_new: bool) -> None:
        if self._task is None or self._task[0] is not bar:
            self._task = bar, bar.add_task(self._what, total=self._total, rate="")
        elif is_new:
            bar.reset(self._task[1], total=self._total)
        bar.update(
            self._task[1],
            completed=self._done,
            rate=f"{rate:.3g}/s" if rate else "",
            visible=self._done < self._total,
        )


def error_lines(record: Mapping[str, Any]) -> list[str]:
    """Returns the errors of a validation, a line for each variable."""
    lines = []
    for name, values in record.get("rmse", {}).items():
        parts = [
            f"{error:.4g}/{record['persistence'][name][lead]:.4g}"
            for lead, error in values.items()
        ]
        leads = ", ".join(values)
        lines.append(f"  {name:34s} {'  '.join(parts)}  (lead {leads}, / persistence)")
    return lines


def what_next(folder: Any, data: str | Sequence[str], *, radar: bool = False) -> str:
    """Returns the command that forecasts with what a run has written.

    Args:
      folder: Of the run.
      data: Path of its data; of a list the last is named, in which the latest start is.
      radar: Whether these are radar pictures, whose nowcasts are scored.
    """
    if radar:
        return f"try: weatherlib nowcast {folder}"
    last = data if isinstance(data, str) else data[-1]
    return (
        f"try: weatherlib predict --pretrained {folder}/checkpoint.npz "
        f"--dataset {shlex.quote(last)} --conform"
    )


def format_seconds(seconds: float) -> str:
    """Returns a length of time for people: '0.42 s', '12 s', '3 min 20 s'."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.01 else "0 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _line_progress(show: Callable[[str], None], what: str) -> Progress:
    """Returns a progress function that prints a few lines in all."""
    printed = 0

    def update(done: int, total: int, seconds: float) -> None:
        nonlocal printed
        part = done * _LINES // max(total, 1)
        if part > printed:
            printed = part
            left = ""
            if 0 < done < total:
                rest = seconds * (total - done) / done
                left = f", about {format_seconds(rest)} to go"
            show(f"{what}: {done} of {total}, {format_seconds(seconds)}{left}")

    return update
