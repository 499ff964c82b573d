"""Teacher forcing in `weatherlib train`."""

import re

import pytest

from tests.training import toy_runs
from weatherlib import checkpoint
from weatherlib.baselines import convlstm_config, convlstm_network, grid_predictor
from weatherlib.cli import families, main
from weatherlib.training import records


@pytest.fixture(autouse=True, scope="module")
def toy_families():
    def network(settings, task, remat):
        made = convlstm_network.ConvLSTMSeq2SeqNetwork(settings, remat=remat)
        return grid_predictor.GridPredictor(settings, made, task)

    def save(path, params, *others, **texts):
        del others
        checkpoint.save(path, {"params": params}, extras=texts)

    decoder = families.Family(
        title="decoder",
        config_class=convlstm_config.ConvLSTMSeq2SeqConfig,
        network=network,
        save=save,
        load=lambda path: checkpoint.open_checkpoint(path, dict)["params"],
    )
    families.FAMILIES["toy_decoder"] = lambda: decoder
    try:
        with toy_runs.family():
            yield
    finally:
        del families.FAMILIES["toy_decoder"]


def train(folder, *changes):
    words = [word for change in changes for word in ("--set", change)]
    return main.main(["train", str(folder / "train.yaml"), *words])


FORCED = (
    "stages=[{steps: 4, batch_size: 2, teacher_forcing: {start: 1.0, end: 0.0, "
    "kind: linear}}, {steps: 2, batch_size: 2}]"
)


@pytest.mark.slow
def test_a_decoder_is_trained_with_a_ratio_that_falls(tmp_path, capsys):
    folder = toy_runs.write(tmp_path)
    model = (
        "model={family: toy_decoder, hidden_channels: 2, num_layers: 1, "
        "input_length: 2, output_length: 1}"
    )
    changes = (model, FORCED, "log_every=1", "checkpoint_every=10")
    assert train(folder, *changes) == 0, capsys.readouterr().err
    assert "4 updates, rollout 1, teacher forcing 1 to 0" in capsys.readouterr().out
    found = [
        record.get("options", {}).get("teacher_forcing_ratio")
        for record in records.read_records(folder / "run")
        if record["kind"] == "train"
    ]
    assert found == pytest.approx([1, 2 / 3, 1 / 3, 0, None, None], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((FORCED,), r"stages\[0\].teacher_forcing: this family does not predict frame"),
        (
            ("stages.0.teacher_forcing={start: 2.0}",),
            r"teacher_forcing.*start must be in \[0, 1\], found 2",
        ),
        (("stages.0.teacher_forcing={kind: steep}",), "kind"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(tmp_path, capsys, changes, message):
    folder = toy_runs.write(tmp_path)
    assert train(folder, *changes) == 2
    err = capsys.readouterr().err
    assert re.search(message, err, re.S), err
    assert "Traceback" not in err
