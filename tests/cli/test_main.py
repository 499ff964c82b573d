import dataclasses
import importlib
import subprocess
import sys

import pytest

import weatherlib
from weatherlib import simulation
from weatherlib.cli import main, simulate


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
        (["predict", "--precision", "half"], "Expected one of ('auto', 'float32'"),
        (["predict", "--steps", "few"], "Error parsing --steps"),
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
