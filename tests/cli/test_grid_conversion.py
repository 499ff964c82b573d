"""`weatherlib weights convert --family` of PyTorch models on grids."""

import numpy as np
import pytest

from tests.weights import grid_cases
from weatherlib import checkpoint
from weatherlib.baselines import registry
from weatherlib.cli import families, models
from weatherlib.cli import main as command
from weatherlib.weights import flat

LEVELS = ("temperature_850", "geopotential_850")


def _run(*arguments):
    return command.main(["weights", "convert", *map(str, arguments)])


def _sizes(name):
    task = grid_cases.CASES[name]["task"]
    heads = grid_cases.known_of(name).heads
    words = ["--family", name, "--grid", f"{task['rows']}x{task['columns']}"]
    words += ["--frames", task["input_length"], task["output_length"]]
    return words + ([] if heads is None else ["--num-heads", heads])


@pytest.mark.parametrize("name", ["convlstm", "lstm", "pixel_unet", "transformer"])
def test_a_state_dict_becomes_a_checkpoint_and_returns_bit_by_bit(
    name, tmp_path, capsys
):
    target, back = tmp_path / "model.npz", tmp_path / "back.safetensors"
    source = grid_cases.model_file(name)
    variables = ["--variables", "2m_temperature", "mean_sea_level_pressure"]
    assert _run(source, target, *_sizes(name), *variables, "--time-step", "1h") == 0
    out = capsys.readouterr().out
    assert f"arrays of a {name} loaded" in out
    assert "of 2 variable(s), as weatherlib" in out
    assert families.recognise(target) == name
    model = models.load_model(target)
    assert model.time_step == "60min"
    assert isinstance(model.model_config, registry.find(name).config_class)
    task = model.task_config
    assert task.target_variables == ("2m_temperature", "mean_sea_level_pressure")
    assert task.input_duration == "180min"
    assert command.main(["info", str(target)]) == 0
    assert name in capsys.readouterr().out
    assert _run(target, back) == 0
    assert "under names of PyTorch" in capsys.readouterr().out
    arrays = grid_cases.arrays_of(name)
    found = flat.read(back)
    assert found.metadata["input_length"] == "3"
    for source_name, array in found.arrays.items():
        assert array.tobytes() == np.ascontiguousarray(arrays[source_name]).tobytes()


def test_levels_are_part_of_the_names_and_channels_are_put_in_order(tmp_path, capsys):
    name, target = "cnn", tmp_path / "model.npz"
    source = grid_cases.model_file(name)
    assert _run(source, target, *_sizes(name), "--variables", *LEVELS) == 0
    assert "order geopotential_850, temperature_850" in capsys.readouterr().out
    held = checkpoint.open_checkpoint(target, registry.checkpoint_type(name))
    assert held.task_config.pressure_levels == (850,)
    arrays = grid_cases.arrays_of(name)
    np.testing.assert_array_equal(
        held.params["cnn/decoder_2"]["b"], arrays["decoder.6.bias"][[1, 0, 3, 2]]
    )


def test_the_name_of_the_original_class_is_known_too(tmp_path):
    target = tmp_path / "model.safetensors"
    words = ["--family", "ConvLSTM", "--frames", 3, 2]
    assert _run(grid_cases.model_file("convlstm"), target, *words) == 0
    assert set(flat.read(target).arrays) == set(grid_cases.arrays_of("convlstm"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name them with --variables"),
        (["--variables", "a"], "those of 2 variables, and 1 are named"),
        (["--variables", "a", "a"], "a is named twice"),
        (["--variables", "a_500", "b_850"], "lie on different levels"),
        (["--variables", "a", "b", "--frames", "4", "2"], "no multiple of 4 past"),
        (["--variables", "a", "b", "--frames", "0", "2"], "must be at least 1"),
        (["--variables", "a", "b", "--family", "cnnn"], "no model 'cnnn'"),
        (["--variables", "a", "b", "--family", "deep_cnn"], "input_projection.weight"),
        (["--variables", "a", "b", "--family", "persistence"], "persistence"),
    ],
)
def test_what_does_not_go_together_ends_in_one_line(words, message, tmp_path, capsys):
    source, target = grid_cases.model_file("cnn"), tmp_path / "model.npz"
    assert _run(source, target, *_sizes("cnn"), *words) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
    assert not target.exists()


def test_arrays_that_do_not_fit_are_named(tmp_path, capsys):
    arrays = grid_cases.arrays_of("cnn")
    del arrays["encoder.4.bias"]
    source, target = tmp_path / "cut.npz", tmp_path / "model.npz"
    flat.write(source, arrays, format="npz")
    words = [*_sizes("cnn"), "--variables", "a", "b"]
    assert _run(source, target, *words) == 2
    shown = capsys.readouterr().err
    assert "1 arrays are missing" in shown and "encoder.4.bias [8]" in shown


def test_info_names_the_model_of_a_file(capsys):
    assert command.main(["info", str(grid_cases.model_file("pixel_unet"))]) == 0
    assert "pixel_unet, by its names" in capsys.readouterr().out


def test_without_a_family_arrays_are_converted_as_they_are(tmp_path, capsys):
    target = tmp_path / "x.npz"
    assert _run(grid_cases.model_file("convlstm"), target) == 0
    assert set(flat.read(target).arrays) == set(grid_cases.arrays_of("convlstm"))
