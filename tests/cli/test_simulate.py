import numpy as np
import pytest

from tests.cli import cases
from weatherlib import data, simulation
from weatherlib.cli import main


@pytest.fixture
def made(monkeypatch):
    """Puts a quick source of frames in the place of the atmosphere."""
    with data.open_dataset(cases.CASE / cases.SOURCE) as source:
        weather = source.load()
    seen = []

    def run(settings, writer, *, progress):
        seen.append(settings)
        for frame in range(writer.frames_written, settings.frames):
            if frame == 2 and len(seen) == 1:
                raise KeyboardInterrupt
            writer.write(weather.isel(time=[frame]))
            progress(frame + 1, settings.frames)

    monkeypatch.setattr(simulation, "run", run)
    return seen


def test_options_reach_the_simulation_and_an_interrupted_run_continues(
    made, tmp_path, capsys
):
    path = tmp_path / "weather.zarr"
    arguments = ["simulate", str(path), "--days", "1", "--resolution", "T31"]
    arguments += ["--seed", "3"]
    assert main.main(arguments) == 130
    assert f"first 2 of 4 frames are in {path}.partial" in capsys.readouterr().err
    assert not path.exists()
    assert main.main(arguments) == 0
    assert f"{path}: 4 frames" in capsys.readouterr().out
    expected = simulation.SimulationConfig(days=1, resolution="T31", seed=3)
    assert made == [expected, expected]
    with data.open_dataset(path) as weather:
        assert weather.sizes["time"] == 4
        assert weather.attrs["title"] == "Simulated weather"
        assert np.isfinite(weather["temperature"]).all()


def test_options_out_of_range_are_refused(made, tmp_path, capsys):
    arguments = ["simulate", str(tmp_path / "w.nc"), "--latitudes", "3"]
    assert main.main(arguments) == 2
    assert "latitudes must be even" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_older_file_is_kept_unless_asked(made, tmp_path, capsys):
    path = tmp_path / "w.nc"
    path.write_text("older")
    assert main.main(["simulate", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "older"
