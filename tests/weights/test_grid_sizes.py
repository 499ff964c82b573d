"""Sizes of models on grids from the shapes of arrays under names of PyTorch."""

import numpy as np
import pytest

from tests.weights import grid_cases
from weatherlib.weights import errors, grid_channels, grid_sizes

EVERY = pytest.mark.parametrize("name", grid_cases.NAMES)


@EVERY
def test_a_model_is_recognised_by_its_names(name):
    assert grid_sizes.recognise(grid_cases.arrays_of(name)) == name


def test_other_names_are_recognised_as_no_model():
    assert grid_sizes.recognise({"fc.weight": np.zeros((2, 2))}) is None


@EVERY
def test_sizes_follow_from_shapes(name):
    found = grid_sizes.infer(
        name, grid_cases.arrays_of(name), grid_cases.known_of(name)
    )
    case = grid_cases.CASES[name]
    assert found.channels == case["task"]["channels"]
    assert found.grid == (case["task"]["rows"], case["task"]["columns"])
    for field in ("input_length", "output_length"):
        assert found.fields[field] == case["task"][field]
    for field, value in case["sizes"].items():
        value = tuple(value) if isinstance(value, list) else value
        assert found.fields[field] == value


@EVERY
def test_another_number_of_variables_than_that_of_the_file_is_refused(name):
    with pytest.raises(ValueError, match="those of 2 variables, and 3 are named"):
        grid_sizes.infer(
            name, grid_cases.arrays_of(name), grid_cases.known_of(name, channels=3)
        )


@pytest.mark.parametrize("name", ["cnn", "deep_cnn", "pixel_unet"])
def test_frames_that_do_not_divide_the_channels_are_refused(name):
    known = grid_cases.known_of(name, input_length=4)
    with pytest.raises(ValueError, match=r"counts 6, no multiple of 4 past frames"):
        grid_sizes.infer(name, grid_cases.arrays_of(name), known)


@pytest.mark.parametrize("name", ["lstm", "lstm_seq2seq", "transformer"])
def test_a_grid_that_does_not_divide_the_features_is_refused(name):
    known = grid_cases.known_of(name, grid=(5, 6))
    with pytest.raises(ValueError, match=r"counts 48, no multiple of 30 points"):
        grid_sizes.infer(name, grid_cases.arrays_of(name), known)


@pytest.mark.parametrize("name", ["spatial_transformer", "weather_transformer"])
def test_a_grid_of_other_places_is_refused(name):
    known = grid_cases.known_of(name, grid=(4, 4))
    with pytest.raises(ValueError, match=r"4x4 grid"):
        grid_sizes.infer(name, grid_cases.arrays_of(name), known)


def test_heads_that_do_not_divide_the_width_are_refused():
    known = grid_cases.known_of("transformer", heads=5)
    with pytest.raises(ValueError, match="counts 12, no multiple of 5 heads"):
        grid_sizes.infer("transformer", grid_cases.arrays_of("transformer"), known)


@EVERY
def test_an_array_that_says_a_size_must_be_there(name):
    with pytest.raises(errors.WrongFormatError, match="is lacking; there are 1"):
        grid_sizes.infer(
            name, {"other": np.zeros((2, 2, 2, 2))}, grid_cases.known_of(name)
        )


def test_an_array_of_other_axes_is_refused():
    arrays = grid_cases.arrays_of("convlstm")
    arrays["cells.0.conv.weight"] = np.zeros((16, 6))
    with pytest.raises(errors.WrongFormatError, match="and 4 axes were expected"):
        grid_sizes.infer("convlstm", arrays, grid_cases.known_of("convlstm"))


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="input_length must be at least 1"):
        grid_sizes.Known(input_length=0)
    with pytest.raises(ValueError, match="grid must be at least 1"):
        grid_sizes.Known(grid=(4, 0))


@EVERY
def test_channels_in_another_order_and_back_are_the_same(name):
    arrays = grid_cases.arrays_of(name)
    task = grid_cases.CASES[name]["task"]
    points = task["rows"] * task["columns"]
    there = grid_channels.reorder(name, arrays, (1, 0), points)
    changed = {n for n in arrays if not np.array_equal(arrays[n], there[n])}
    assert changed == {n for n in arrays if grid_channels.channel_axes(name, n)}
    back = grid_channels.reorder(name, there, (1, 0), points)
    for source, array in arrays.items():
        np.testing.assert_array_equal(back[source], array)
