import io
import itertools

import pytest
import rich.console

from weatherlib.cli import console


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.001, "0 s"),
        (0.42, "0.42 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (200, "3 min 20 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_times_are_written_for_people(seconds, text):
    assert console.format_seconds(seconds) == text


def test_progress_in_a_log_is_a_few_lines(capsys):
    with console.Console().progress("Forecast", 1000) as progress:
        for step in range(1001):
            progress(step, 1000, step / 10)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[-1] == "Forecast: 1000 of 1000, 1 min 40 s"


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    out = console.Console()
    terminal = io.StringIO()
    out._rich = rich.console.Console(file=terminal, force_terminal=True, width=100)
    with out.progress("Forecast", 4) as progress:
        progress(4, 4, 1.0)
    assert "4/4" in terminal.getvalue()


def _clock(monkeypatch, seconds):
    """Lets so much time pass from one look at the clock to the next."""
    ticks = itertools.count()
    monkeypatch.setattr(console.time, "monotonic", lambda: seconds * next(ticks))


def test_steps_in_a_log_are_lines_now_and_then(monkeypatch, capsys):
    _clock(monkeypatch, 1.0)
    steps = console.Console().steps("Denoising")
    for _ in range(3):
        for done in (2, 1, *range(3, 101)):
            steps(done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Denoising: step 30 of 100, 0.966/s, about 1 min 12 s to go",
        "Denoising: step 90 of 100, 0.989/s, about 10 s to go",
        "Denoising: step 10 of 100, 0.889/s, about 1 min 41 s to go",
    ]


def test_short_works_print_no_steps(monkeypatch, capsys):
    _clock(monkeypatch, 0.1)
    steps = console.Console().steps("Denoising")
    for done in range(1, 101):
        steps(done, 100)
    assert capsys.readouterr().out == ""


def test_steps_on_a_terminal_are_a_second_bar_until_they_are_done(monkeypatch):
    out = console.Console()
    terminal = io.StringIO()
    out._rich = rich.console.Console(file=terminal, force_terminal=True, width=100)
    steps = out.steps("Denoising")
    for _ in range(2):
        with out.progress("Samples", 2):
            for total in (40, 40, 60):
                for done in (1, 2, 20):
                    steps(done, total)
                bar = out._bar
                first, second = bar.tasks
                assert (second.description, second.visible) == ("Denoising", True)
                assert (second.completed, second.total) == (20, total)
                assert second.fields["rate"].endswith("/s")
                bar.refresh()
                steps(total, total)
                assert not second.visible
                steps(total - 1, total)
                assert not second.visible
                assert first.visible
    assert "Denoising" in terminal.getvalue()
    assert out._bar is None


def test_stages_add_up_and_can_be_split(capsys, monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 11.0])
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(clock))
    out = console.Console()
    for _ in range(2):
        with out.stage("forecast"):
            pass
    out.split_stage("forecast", "compile", 2.0)
    assert out.seconds == {"compile": 2.0, "forecast": 4.0}
    out.print_times()
    assert capsys.readouterr().out == "Time: compile 2 s, forecast 4 s; 6 s in all\n"


def test_tables_are_aligned_and_never_cut(capsys):
    console.Console().table(["name", "value"], [["x" * 150, "1"], ["y", "2000"]])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert "x" * 150 in first
    assert len(heading) == len(first) == len(second)
    assert second.endswith(" 2000") and first.endswith("    1")


def test_text_in_brackets_is_no_markup(capsys):
    out = console.Console()
    out.print("[bold] 280 [K]")
    out.facts([("levels", "[500, 850]")])
    assert capsys.readouterr().out == "[bold] 280 [K]\n  levels  [500, 850]\n"


_RECORD = {"step": 4, "loss": 0.5, "steps_per_second": 2.0, "seconds_left": 90.0}


class TestTrainingDisplay:
    def _shown(self, terminal, seconds=0.0):
        import io

        import rich.console

        from weatherlib.cli import console

        text = io.StringIO()
        made = rich.console.Console(file=text, force_terminal=terminal, width=100)
        with console.TrainingDisplay(made) as display:
            display.begin(2, 8)
            for step in (4, 6, 8):
                display.update({**_RECORD, "step": step})
            display.note(["validation [best]"])
        return text.getvalue()

    def test_in_a_log_there_are_few_lines(self):
        lines = self._shown(False).splitlines()
        assert lines == [
            "continuing after update 2 of 8",
            "update 4 of 8  loss 0.5  2/s  1 min 30 s left",
            "update 8 of 8  loss 0.5  2/s  1 min 30 s left",
            "validation [best]",
        ]

    def test_on_a_terminal_there_is_a_bar_with_loss_rate_and_time_left(self):
        found = self._shown(True)
        assert "8/8" in found
        assert "loss 0.5  2/s  1 min 30 s left" in found
        assert "validation [best]" in found

    def test_before_the_rate_is_known_the_loss_is_shown(self):
        import rich.console

        from weatherlib.cli import console

        made = rich.console.Console(force_terminal=False, width=100, record=True)
        with console.TrainingDisplay(made) as display:
            display.begin(0, 8)
            display.update({"step": 1, "loss": 0.25, "steps_per_second": None})
        assert made.export_text() == "update 1 of 8  loss 0.25\n"


def test_long_facts_are_folded_and_nothing_of_them_is_lost(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"variable_number_{i}" for i in range(12)]
    console.Console().facts([("inputs", ", ".join(names)), ("license", "CC0-1.0")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("  inputs   variable_number_0,")
    assert lines[1].startswith("           variable_number_")
    assert lines[-1] == "  license  CC0-1.0"
    assert " ".join(" ".join(lines[:-1]).split()) == f"inputs {', '.join(names)}"
