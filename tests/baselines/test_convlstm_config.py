import pytest

from weatherlib import config
from weatherlib.baselines import convlstm_config


@pytest.mark.parametrize(
    "kind", [convlstm_config.ConvLSTMConfig, convlstm_config.ConvLSTMSeq2SeqConfig]
)
def test_the_defaults_are_those_of_the_specification(kind):
    sizes = kind()
    assert (sizes.input_length, sizes.output_length) == (12, 4)
    assert sizes.widths == (64, 64)
    assert sizes.spacings == (1, 1)
    assert sizes.kernel_size == 3
    assert sizes.patch == (1, 1)
    assert (sizes.normalization, sizes.peepholes) == ("none", "none")
    assert sizes.dropout == 0
    assert (sizes.edges, sizes.predicts) == ("zero", "state")


def test_lists_give_each_layer_its_own():
    fields = {
        "hidden_channels": [64, 32, 16],
        "num_layers": 3,
        "dilations": [1, 2, 4],
        "patch_size": [2, 4],
    }
    sizes = config.from_dict(convlstm_config.ConvLSTMConfig, fields)
    assert sizes.widths == (64, 32, 16)
    assert sizes.spacings == (1, 2, 4)
    assert sizes.patch == (2, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be an odd number, found 4"),
        ({"kernel_size": 0}, "kernel_size must be at least 1"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"hidden_channels": (8, 8, 8)}, "has 3 entries for num_layers 2"),
        ({"hidden_channels": ()}, "has 0 entries for num_layers 2"),
        ({"dilations": (1,)}, "dilations .1. has 1 entries"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, found 0"),
        ({"dilations": (1, 0)}, "dilations must be at least 1"),
        ({"patch_size": (2, 0)}, "patch_size must be at least 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"input_length": 0}, "input_length must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        convlstm_config.ConvLSTMConfig(**changes)


def test_words_are_checked_where_settings_are_read():
    with pytest.raises(ValueError, match="peepholes"):
        config.from_dict(convlstm_config.ConvLSTMConfig, {"peepholes": "all"})
