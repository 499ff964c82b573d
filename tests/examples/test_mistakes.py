"""A mistake in the call of a script ends with one line and exit code 2."""

import pytest

from tests.examples import scripts


def call(name, words):
    """Returns the exit code of a script that is given some words."""
    return scripts.load(name).main(words)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("compare_models", ["--data", "none.nc"], "none.nc"),
        (
            "compare_models",
            ["--data", "none.nc", "--models", "lr", "persistence"],
            "--models persistence",
        ),
        ("finetune_climax", ["none.nc"], "none.nc"),
        ("finetune_climax", ["none.nc", "--steps", "few"], "--steps"),
        ("finetune_climax", [], "archive"),
        ("train", ["none.yaml"], "none.yaml"),
        ("train", ["--bogus"], "there is no option --bogus; usage: python examples/tr"),
        ("train", ["none.yaml", "--resume"], "there is no option --resume"),
        ("train", [str(scripts.FOLDER / "configs" / "era5_msl.yaml"), "sed=1"], "seed"),
        (
            "train",
            [str(scripts.FOLDER / "configs" / "era5_msl.yaml"), "data.path=none.nc"],
            "none.nc",
        ),
        ("train_stage1_direct", ["--data", "none.nc"], "none.nc"),
    ],
)
def test_a_mistake_ends_with_one_line(
    name, words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert call(name, words) == 2
    errors = capsys.readouterr().err
    (line,) = [x for x in errors.splitlines() if x.startswith("weatherlib: error: ")]
    assert message in line
    assert "Traceback" not in errors


def test_train_says_how_it_is_called(capsys):
    assert call("train", []) == 2
    assert "CONFIG.yaml" in capsys.readouterr().out
