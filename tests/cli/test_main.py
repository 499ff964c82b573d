import dataclasses
import importlib
import inspect
import subprocess
import sys
import textwrap

import pytest

import weatherlib
from weatherlib import simulation
from weatherlib.cli import help_texts, main, simulate


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_lists_every_command(arguments, capsys):
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out
    for name, command in main.COMMANDS.items():
        assert f"  {name}" in printed and command.summary in printed


def test_the_version_is_printed(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"weatherlib {weatherlib.__version__}\n"


def test_the_package_can_be_run_as_a_module():
    command = [sys.executable, "-m", "weatherlib", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout == f"weatherlib {weatherlib.__version__}\n"


def test_an_unknown_command_names_those_there_are(capsys):
    assert main.main(["forecast"]) == 2
    assert "no command 'forecast'; the commands are predict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"),
    [("predct", "predict"), ("eval", "evaluate"), ("--versio", "--version")],
)
def test_a_misspelt_command_is_answered_with_the_nearest(word, meant, capsys):
    assert main.main([word]) == 2
    said = capsys.readouterr().err
    assert f"'{word}' (did you mean {meant}?); the " in said
    assert ("the options are" in said) == word.startswith("-")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_help_of_a_command_explains_each_option_with_examples(name, capsys):
    assert main.main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    text = " ".join(printed.replace("\u2502", " ").split())
    for odd in ("{None}", "{None,", "(default: None)", "(default: )", "STR"):
        assert odd not in text
    assert "[INT [INT" not in text
    module = importlib.import_module(main.COMMANDS[name].module)
    for example in module.EXAMPLES:
        assert example in printed
        assert example.split()[:2] == ["weatherlib", name]
    for field in dataclasses.fields(module.Options):
        flag = f"--{field.name.replace('_', '-')}"
        hidden = name == "predict" and field.name == "truth"
        words = (
            "path",
            "output",
            "forecasts",
            "model",
            "models",
            "action",
            "name",
            "shell",
            "config",
            "source",
        )
        positional = field.name in words and flag not in printed
        assert (flag in printed) != (hidden or positional)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_is_folded_between_words_and_nowhere_else(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert main.main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    module = importlib.import_module(main.COMMANDS[name].module)
    paragraphs = inspect.cleandoc(module.__doc__).split("\n\n")
    fold = textwrap.TextWrapper(70, break_long_words=False, break_on_hyphens=False)
    for shown, paragraph in zip(printed.split("\n\n")[1:], paragraphs):
        if not paragraph.startswith(" "):
            paragraph = fold.fill(" ".join(paragraph.split()))
        assert shown == paragraph
    # The texts of options are folded by their box, and by no line of the source.
    monkeypatch.setenv("COLUMNS", "1000")
    assert main.main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    texts = help_texts.texts_of(module.Options)
    own = {"predict": "truth", "nowcast": "models", "evaluate": "forecasts"}
    texts.pop(own.get(name, ""), None)
    for text in texts.values():
        assert text in printed
        assert "Default:" not in text or f"{text} (default:" not in printed


def test_paragraphs_are_joined_and_lists_stay():
    text = """One
    and more.

      indented  line
    then text
    that goes on
    - a point
    - another
    """
    assert help_texts.joined(text).splitlines() == [
        "One and more.",
        "",
        "  indented  line",
        "then text that goes on",
        "- a point",
        "- another",
    ]


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_wrong_option_is_refused(name, capsys):
    needed = {"completion": ["bash"], "predict": [], "info": [], "weights": ["list"]}
    needed["evaluate"] = ["x.nc", "--truth", "y.nc"]
    needed["shards"] = ["x.nc", "shards"]
    needed["sevir-lr"] = ["sevir", "sevirlr"]
    words = needed.get(name, ["x.nc"])
    assert main.main([name, *words, "--frobnicate", "3"]) == 2
    said = capsys.readouterr().err
    assert "--frobnicate" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["simulate", "x.nc", "--days"], "--days"),
        (
            ["predict", "--precision", "half"],
            "--precision: expected one of auto, float32, bfloat16, found 'half'.",
        ),
        (
            ["predict", "--perturb", "foo"],
            "--perturb: expected one of gaussian, spherical, bred, lagged, found 'foo'",
        ),
        (
            ["predict", "--sampler", "foo"],
            "--sampler: expected one of ddim, ddpm, dpmsolver++, found 'foo'",
        ),
        (["weights", "list", "--kind", "x"], "one of weights, statistics, data, found"),
        (
            ["completion", "tcsh"],
            "shell: expected one of bash, zsh, fish, found 'tcsh'",
        ),
        (
            ["predict", "--steps", "few"],
            "--steps: expected a whole number, found 'few'.",
        ),
        (["predict", "--steps=1.5"], "--steps: expected a whole number, found '1.5'."),
        (["predict", "--amplitude", "x"], "--amplitude: expected a number, found 'x'."),
        (
            ["plot", "x.nc", "--values", "1", "x"],
            "--values: expected numbers, found 'x'",
        ),
        (["weights", "list", "--frames", "1"], "expected 2 whole numbers, found '1'"),
        (["plot", "x.nc", "--level"], "--level: expected a whole number after it"),
        (["train", "--bogus"], "there is no option --bogus. "),
        (["predict", "--stesp", "3"], "no option --stesp (did you mean --steps?)"),
        (["evaluate", "x.nc", "--output=y"], "--output (did you mean --out-dir?)"),
        (
            ["evaluate"],
            "missing: FORECASTS (forecasts: PATH, or NAME=PATH for several), "
            "--truth PATH (what happened: any",
        ),
        (["evaluate", "--references", "ridge"], "missing: FORECASTS (forecasts: PATH,"),
        (["evaluate", "x.nc", "--references", "a", "b"], "missing: --truth PATH (what"),
        (["evaluate", "--memory", "3", "--by-start", "x.nc"], "missing: --truth PATH"),
        (["evaluate", "--memory=3", "x.nc"], "missing: --truth PATH"),
        (
            ["shards"],
            "missing: SOURCE (folder of WeatherBench, or any archive), OUT (f",
        ),
        (["shards", "x.nc"], "missing: OUT (folder to write). `weatherlib shards"),
        (["predict", "--qqq", "--steps", "3", "--set", "4"], "no option --qqq; there"),
    ],
)
def test_a_mistake_in_an_option_takes_one_line(arguments, expected, capsys):
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("weatherlib: error: ")
    assert expected in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["predict", "--data", "a.nc", "b.nc"],
            "--data takes one word, found also b.nc",
        ),
        (["predict", "--steps", "3", "4"], "--steps takes one word, found also 4. "),
        (["stats", "a.nc", "b.nc"], "there is no place for b.nc; several files are"),
        (["train", "x.yaml", "--resume", "y.yaml"], "there is no place for y.yaml. "),
    ],
)
def test_words_that_nothing_takes_are_named(
    arguments, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.nc").touch()
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert expected in said and "`weatherlib" in said
    assert ("pattern in quotes" in said) == ("b.nc" in arguments)


def test_help_loads_no_heavy_package():
    code = """
import sys
from weatherlib.cli import main
for name in main.COMMANDS:
    main.main([name, "--help"])
heavy = ("jax", "xarray", "matplotlib", "numpy", "pandas", "haiku")
print([name for name in heavy if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_simulation_options_are_those_of_the_simulation():
    ours = {f.name: f.default for f in dataclasses.fields(simulate.Options)}
    theirs = {
        f.name: f.default for f in dataclasses.fields(simulation.SimulationConfig)
    }
    shared = set(ours) & set(theirs)
    assert shared == set(ours) - {"output", "overwrite"}
    assert {name: ours[name] for name in shared} == {n: theirs[n] for n in shared}
