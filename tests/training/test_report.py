import json

import pytest

from weatherlib.training import records, report


def _records(step, count=3):
    rows = [
        {
            "kind": "train",
            "step": step + i,
            "stage": 0,
            "loss": 1.0 / (i + 1),
            "gradient_norm": 1.0,
            "learning_rate": 0.1,
            "steps_per_second": 2.0 if i else None,
            "data_wait": 0.01 if i else None,
            "losses": {"t<b>": 0.5},
        }
        for i in range(count)
    ]
    judged = {
        "kind": "validation",
        "step": step + count - 1,
        "stage": 0,
        "loss": 0.4,
        "metric": 0.4,
        "rmse": {"t": {"1": 2.0}},
        "persistence": {"t": {"1": 4.0}},
    }
    return [*rows, judged]


def test_the_page_holds_all_and_escapes_what_is_text(tmp_path):
    found = report.write(
        tmp_path,
        title="A <run>",
        facts=[("data", "x & y")],
        settings="seed: 1\n",
        records=_records(1),
    ).read_text()
    assert "A &lt;run&gt;" in found
    assert "x &amp; y" in found
    assert "seed: 1" in found
    assert "<td class=n>0.500</td>" in found
    assert "jax" in found
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("rows", [[], _records(1)[:1], _records(1)[-1:]])
def test_a_run_that_hardly_began_has_curves_too(rows):
    assert len(report.curves(rows).axes) == 4


def test_curves_show_what_was_recorded():
    drawing = report.curves(_records(5))
    loss = drawing.axes[0].lines[0]
    assert loss.get_xdata().tolist() == [5, 6, 7]
    assert loss.get_ydata().tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert drawing.axes[1].lines[0].get_ydata().tolist() == [0.5]


def test_records_after_a_checkpoint_are_dropped_from_all_files(tmp_path):
    recorder = records.Recorder(tmp_path)
    recorder.begin(0, 10)
    for record in _records(1):
        recorder.record(record)
    recorder.close()
    # A kill may cut the last line.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    again = records.Recorder(tmp_path, tensorboard=False)
    again.begin(2, 10)
    assert [r["step"] for r in records.read_records(tmp_path)] == [1, 2]
    again.record(_records(3)[0])
    again.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    table = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["step", "1", "2", "3"]
    assert list((tmp_path / "events").iterdir())


def test_nested_numbers_get_joined_names():
    flat = records.flatten({"a": {"b": 1.0, "c": {"d": 2}}, "text": "x", "flag": True})
    assert flat == {"a/b": 1.0, "a/c/d": 2}
