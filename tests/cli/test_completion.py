import dataclasses
import importlib
import re
import shutil
import subprocess
import typing

import pytest

from tests.cli import cases
from weatherlib.cli import completion, completion_words, main, predict

_BASH = shutil.which("bash")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_option_of_a_command_is_known(name, capsys):
    found = {flag for a in completion.arguments_of(name) for flag in a.flags}
    assert main.main([name, "--help"]) == 0
    printed = capsys.readouterr().out.partition("Examples:")[0]
    shown = set(re.findall(r"^.{0,4}(--[a-z][a-z-]*)", printed, re.M))
    shown |= set(
        re.findall(r"^.{0,4}--[a-z][a-z-]*[^,]*, (--[a-z][a-z-]*)", printed, re.M)
    )
    assert found == shown - {"--help"}


def _complete(tmp_path, *words):
    """Returns what bash offers for the last of some words."""
    path = tmp_path / "completion.bash"
    path.write_text(completion.script("bash"))
    line = " ".join(f"'{word}'" for word in ("weatherlib", *words))
    code = (
        f"source {path}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _weatherlib; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        [_BASH, "--norc", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    return result.stdout.split()


@pytest.mark.skipif(_BASH is None, reason="bash is not installed")
def test_bash_completes_commands_options_choices_and_files(tmp_path):
    (tmp_path / "era5.nc").touch()
    assert set(_complete(tmp_path, "")) >= set(main.COMMANDS)
    assert _complete(tmp_path, "pre") == ["predict"]
    assert _complete(tmp_path, "predict", "--mem") == [
        "--members",
        "--members-per-batch",
    ]
    assert _complete(tmp_path, "predict", "--perturb", "b") == ["bred"]
    assert _complete(tmp_path, "predict", "--data", "e") == ["era5.nc"]
    assert _complete(tmp_path, "predict", "--steps", "") == []
    assert _complete(tmp_path, "weights", "f") == ["fetch"]


@pytest.mark.skipif(_BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowcast", "--config", ""], ["era5.nc"]),
        (["nowcast", "--output", ""], ["era5.nc"]),
        (["stats", "--output", ""], ["era5.nc"]),
        (["weights", "fetch", "dinov2-r"], ["dinov2-registers-base"]),
        (["weights", "convert", ""], ["era5.nc"]),
        (["evaluate", "--references", "r"], ["ridge"]),
        (["evaluate", "--metrics", "rmse", "crps_"], ["crps_fair"]),
        (["evaluate", "--metrics", "rmse", "--conf"], ["--confidence"]),
        (["evaluate", "--regions", "tropics", "lan"], ["land"]),
        (["nowcast", "--references", "st"], ["steps"]),
        (["plot", "--region", "eu"], ["europe"]),
        (["stats", "--task", "TASK_13_"], ["TASK_13_PRECIP_OUT"]),
        (["predict", "--derive", "wind_speed", "vort"], ["vorticity"]),
        (["evaluate", "--levels", "500", ""], []),
    ],
)
def test_bash_offers_words_that_types_do_not_tell(tmp_path, words, expected):
    (tmp_path / "era5.nc").touch()
    found = _complete(tmp_path, *words)
    assert [word for word in found if word != "completion.bash"] == expected


@pytest.mark.parametrize("name", main.COMMANDS)
def test_files_are_offered_where_a_metavar_says_so(name):
    options = importlib.import_module(main.COMMANDS[name].module).Options
    hints = typing.get_type_hints(options, include_extras=True)
    known = {argument.name: argument for argument in completion.arguments_of(name)}
    for field, argument in known.items():
        marks = getattr(hints[field], "__metadata__", ())
        metavar = "".join(getattr(mark, "metavar", None) or "" for mark in marks)
        is_file = re.fullmatch(
            r"(PATH|FILE|DIR|FOLDER|SOURCE|OUT|CONFIG|MODELS?|FORECASTS)(\.\w+)?",
            metavar,
        )
        assert argument.takes_file == bool(is_file), (field, metavar)


def test_words_belong_to_options_that_there_are():
    for command, field in completion_words._WORDS:
        names = {command} if command else set(main.COMMANDS)
        fields = [a.name for name in names for a in completion.arguments_of(name)]
        assert field in fields
        for name in names:
            assert completion_words.words_of(name, field)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("weights path dinov2-r", ["dinov2-registers-base"]),
        ("weights convert e", ["era5.nc"]),
        ("evaluate --metrics rmse crps_", ["crps_fair"]),
        ("nowcast --config e", ["era5.nc"]),
    ],
)
def test_fish_offers_the_same_words(tmp_path, line, expected):
    (tmp_path / "era5.nc").touch()
    (tmp_path / "c.fish").write_text(completion.script("fish"))
    code = f"source c.fish; complete -C 'weatherlib {line}'"
    found = subprocess.run(
        ["fish", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert [row.split("\t")[0] for row in found.stdout.splitlines()] == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command_option_and_choice(shell):
    script = completion.script(shell)
    for name, command in main.COMMANDS.items():
        assert name in script and command.summary.replace("'", "'\\''") in script
    for argument in completion.arguments_of("predict"):
        for flag in argument.flags:
            assert flag.removeprefix("--") in script
        for choice in argument.choices:
            assert choice in script
    for word in ("crps_fair", "damped-persistence", "dinov2-base", "north-atlantic"):
        assert word in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_the_command_prints_the_script(capsys):
    assert main.main(["completion", "fish"]) == 0
    assert capsys.readouterr().out == completion.script("fish")
    assert main.main(["completion", "tcsh"]) == 2


def test_the_example_script_has_flags_of_predict_with_the_same_defaults():
    ours = {f.name: f.default for f in dataclasses.fields(predict.Options)}
    theirs = vars(cases.SCRIPT.argsparser().parse_args([]))
    assert theirs.pop("list") is False
    # As published; the command draws the first variable where there is no such one.
    assert theirs.pop("var") == "2m_temperature" and ours["var"] is None
    assert {name: ours[name] for name in theirs} == theirs
    flags = {flag for a in completion.arguments_of("predict") for flag in a.flags}
    for action in cases.SCRIPT.argsparser()._actions:
        assert set(action.option_strings) - {"-h", "--help", "--list"} <= flags
    assert {"--model", "--data"} <= flags
