import subprocess
import sys

import pytest

from tests.cli import cases
from weatherlib import checkpoint, graphcast
from weatherlib.cli import main, models
from weatherlib.geometry import graph


@pytest.fixture
def case(tmp_path):
    return cases.Case.create(tmp_path)


def test_weather_is_described(case, capsys):
    assert main.main(["info", str(case.dataset)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "13x24, latitude -90 to 90, longitude 0 to 345",
        "2022-07-14 12:00 to 2022-07-15 06:00 UTC, 4 in all",
        "50, 100, 150",
        "specific_humidity",
        "kg kg-1",
        "batch, time, level, lat, lon",
    ):
        assert part in printed
    assert "Checkpoint" not in printed


def test_a_checkpoint_is_described(case, capsys):
    assert main.main(["info", str(case.checkpoint)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "18,195 in 94 arrays",
        "mesh_size 1",
        "over 12 h",
        "8889e9ce743cba4ab06a8a88739877509b7ac054e01036e704de7883cc506c6c",
        "CC0-1.0",
    ):
        assert part in printed
    assert "Data" not in printed


def test_what_keeps_them_apart_is_listed(case, capsys):
    arguments = ["info", str(case.dataset), "--checkpoint", str(case.checkpoint)]
    assert main.main(arguments) == 0
    assert "Do they fit?\n  yes" in capsys.readouterr().out
    case.change(lambda data: data.drop_sel(level=850).drop_vars("temperature"))
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert "850 hPa missing" in printed and "temperature" in printed


def test_units_time_step_and_parameters_that_keep_them_apart_are_listed(case, capsys):
    arguments = ["info", str(case.dataset), "--checkpoint", str(case.checkpoint)]

    def spaced_in_celsius(data):
        time = data["time"].values * 2
        dates = data["datetime"].values[:, :1] + time
        data = data.assign_coords(time=time, datetime=(("batch", "time"), dates))
        field = (data["2m_temperature"] - 273.15).assign_attrs(units="degC")
        return data.assign({"2m_temperature": field})

    case.change(spaced_in_celsius)
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert "2m_temperature: units 'degC', expected 'K'; weatherlib predict" in printed
    assert "the weights fit a time step of 0 days 06:00:00" in printed
    assert main.main([*arguments[:-1], "./"]) == 0
    printed = capsys.readouterr().out.partition("Do they fit?")[2]
    assert "frames are 0 days 12:00:00 apart, the model steps by 0 days 06" in printed


def test_stored_edges_are_compared_with_those_found_here(case, capsys):
    model = models.load_model(case.checkpoint)
    weather = case.read()
    here = graph.build_graph(
        weather["lat"].values,
        weather["lon"].values,
        mesh_size=1,
        radius_query_fraction_edge_length=0.6,
    ).topology.to_arrays()
    whole = checkpoint.open_checkpoint(case.checkpoint, graphcast.CheckPoint)
    arguments = ["info", str(case.dataset), "--checkpoint", str(case.checkpoint)]
    assert main.main(arguments) == 0
    assert "mesh: not stored in the checkpoint" in capsys.readouterr().out
    for change, message in ((0, "mesh: same edges"), (1, "1 mesh2grid edges differ")):
        edges = {name: array.copy() for name, array in here.items()}
        edges["mesh2grid_senders"][0] += change
        checkpoint.save(model.path, whole, extras={"topology": edges})
        assert main.main(arguments) == 0
        assert message in capsys.readouterr().out


def test_the_bundled_files_are_described_without_arguments(capsys):
    assert main.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "the bundled sample" in printed and "Do they fit?\n  yes" in printed


def test_two_checkpoints_are_not_compared(case, capsys):
    arguments = ["info", str(case.checkpoint), "--checkpoint", str(case.checkpoint)]
    assert main.main(arguments) == 2
    assert "name a weather file to compare" in capsys.readouterr().err


def test_describing_weather_does_not_load_jax(case):
    code = f"""
import sys
from weatherlib.cli import main
assert main.main(["info", {str(case.dataset)!r}]) == 0
print("jax" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "False"
