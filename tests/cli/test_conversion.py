"""Tests of `weatherlib weights convert` and of describing files of weights."""

import json

import numpy as np
import pytest

from tests.weights import torch_writer
from weatherlib import checkpoint, climax
from weatherlib.cli import main as command
from weatherlib.weights import climax as climax_weights
from weatherlib.weights import climax_checkpoint, flat


@pytest.fixture(scope="module")
def model(goldens):
    """Sizes of the golden model that do not follow from its file."""
    held = json.loads((goldens / "climax" / "config.json").read_text())["config"]
    return ["--num-heads", str(held["num_heads"]), "--variables", *held["default_vars"]]


@pytest.fixture
def published(goldens):
    """The golden file."""
    return str(goldens / "climax" / "global.ckpt")


def _run(*arguments):
    return command.main(["weights", "convert", *map(str, arguments)])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_of_any_model_are_converted_as_they_are(
    suffix, goldens, tmp_path, capsys
):
    source = goldens / "torch" / "tensors.pt"
    target = tmp_path / f"x{suffix}"
    assert _run(source, target) == 0
    before, after = flat.read(source).arrays, flat.read(target).arrays
    assert set(before) == set(after)
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        assert after[name].tobytes() == array.tobytes()
    assert "14 arrays" in capsys.readouterr().out


# As many as in the file, on levels that all of them share, as a task needs.
EVEN = [
    "land_sea_mask",
    "orography",
    "lattitude",
    "2m_temperature",
    "10m_u_component_of_wind",
    "10m_v_component_of_wind",
    *(
        f"{name}_{level}"
        for name in ("geopotential", "temperature", "specific_humidity")
        for level in (500, 850)
    ),
]


def test_climax_becomes_a_checkpoint_and_returns_bit_by_bit(
    published, tmp_path, goldens, capsys
):
    model = ["--num-heads", "4", "--variables", *EVEN]
    target, back = tmp_path / "climax.npz", tmp_path / "back.safetensors"
    assert _run(published, target, *model) == 0
    assert "65 arrays loaded" in capsys.readouterr().out
    held = checkpoint.open_checkpoint(target, climax.CheckPoint)
    assert held.architecture == climax.CLIMAX
    assert held.model_config.num_heads == 4
    assert held.task_config.pressure_levels == (500, 850)
    assert "global.ckpt" in held.description
    assert _run(target, back) == 0
    found = flat.read(back)
    assert found.metadata["img_size"] == "(32, 64)"
    with np.load(goldens / "climax" / "global_weights.npz") as expected:
        assert set(found.arrays) == {f"net.{name}" for name in expected.files}
        for name in expected.files:
            array = found.arrays[f"net.{name}"]
            assert array.tobytes() == expected[name].tobytes()


def test_climax_is_carried_over_to_another_grid(published, model, tmp_path, capsys):
    target = tmp_path / "climax.safetensors"
    assert _run(published, target, "--grid", "48x96", *model) == 0
    said = capsys.readouterr().out
    assert "pos_embed interpolated from 16x32 to 24x48 patches" in said
    assert flat.read(target).arrays["net.pos_embed"].shape == (1, 24 * 48, 64)


def test_an_older_file_is_reported_and_refused_when_strict(
    goldens, model, tmp_path, capsys
):
    source, target = goldens / "climax" / "legacy_channel.ckpt", tmp_path / "x.npz"
    options = [*model, "--format", "npz", "--grid", "16x32"]
    assert _run(source, target, *options) == 0
    said = capsys.readouterr().out
    assert "6 older names" in said
    assert "dropped: net.mask_token" in said
    target.unlink()
    assert _run(source, target, *options, "--strict") == 2
    error = capsys.readouterr().err
    assert "1 extra" in error
    assert "extra      mask_token [1, 1, 32]" in error
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "needs a file to write"),
        (["x.pt"], "torch files are only read"),
        (["x.npz", "--format", "safetensors"], "suffix is not that of safetensors"),
        (["x.npz", "--grid", "wide"], "rows and columns are needed"),
        (["x.npz", "--grid", "33x64"], "patch_size 2 does not divide the 33x64 grid"),
    ],
)
def test_what_cannot_be_converted_ends_with_one_line(
    arguments, reason, published, model, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert _run(published, *arguments, *model) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_variables_on_unequal_levels_make_no_checkpoint(
    published, model, tmp_path, capsys
):
    assert _run(published, tmp_path / "x.npz", *model) == 2
    error = capsys.readouterr().err
    assert "on different levels" in error
    assert "geopotential: 500, 850; u_component_of_wind: 500" in error
    assert "npz or safetensors" in error


def test_names_of_variables_are_asked_for(published, tmp_path, capsys):
    assert _run(published, tmp_path / "x.npz") == 2
    error = capsys.readouterr().err
    assert "give their 12 names" in error
    assert "--variables" in error


def test_a_grid_for_another_model_is_refused(goldens, tmp_path, capsys):
    source = goldens / "torch" / "tensors.pt"
    assert _run(source, tmp_path / "x.npz", "--grid", "8x16") == 2
    assert "no ClimaX" in capsys.readouterr().err


def test_published_weights_that_were_not_fetched_say_how(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WEATHERLIB_CACHE", str(tmp_path))
    assert _run("climax-5.625deg", tmp_path / "x.npz") == 2
    assert "weights fetch climax-5.625deg --yes" in capsys.readouterr().err


def test_a_file_that_carries_code_is_refused_and_nothing_is_written(tmp_path, capsys):
    flag, source = tmp_path / "it_ran", tmp_path / "x.ckpt"
    call = torch_writer.Call(torch_writer.Name("os", "system"), (f"touch {flag}",))
    torch_writer.save(source, {"state_dict": {"a": np.ones(2)}, "x": call})
    for arguments in (
        ["weights", "convert", str(source), str(tmp_path / "x.npz")],
        ["info", str(source)],
    ):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert "it carries code: it names os.system" in error
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.ckpt"]


def test_a_damaged_file_ends_with_one_line(tmp_path, goldens, capsys):
    source = tmp_path / "x.ckpt"
    content = (goldens / "torch" / "tensors.pt").read_bytes()
    source.write_bytes(content[:3000])
    assert command.main(["info", str(source)]) == 2
    error = capsys.readouterr().err
    assert "cut short or damaged" in error
    assert error.count("\n") == 1


def test_info_tells_an_autoencoder(goldens, capsys):
    path = goldens / "prediff" / "vae.pt"
    assert command.main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "KL autoencoder of 1 channels to 8, 4 times smaller" in " ".join(
        said.split()
    )


def test_info_describes_torch_files_and_exports(published, tmp_path, capsys):
    assert command.main(["info", published]) == 0
    said = capsys.readouterr().out
    assert "65 under state_dict" in said
    assert "ClimaX of 12 variables, 512 patches, width 64" in said
    assert "epoch: 3" in said
    assert "and 53 more" in said
    target = tmp_path / "x.npz"
    flat.write(target, {"a.b": np.ones((2, 3), np.float32)}, format="npz")
    assert command.main(["info", str(target)]) == 0
    said = capsys.readouterr().out
    assert "unknown" in said
    assert "a.b" in said


def test_the_task_of_published_weights_reads_all_and_predicts_what_changes():
    task = climax_checkpoint.published_task(climax.ClimaXConfig())
    assert task.pressure_levels == (50, 250, 500, 600, 700, 850, 925)
    assert set(task.input_variables) - set(task.target_variables) == set(
        climax_checkpoint.CONSTANTS
    )
    assert len(task.target_variables) == 9


def test_a_checkpoint_of_ours_is_exported_once_only(tmp_path, capsys):
    sizes = climax.ClimaXConfig(
        default_vars=("2m_temperature", "lattitude"),
        img_size=(4, 8),
        embed_dim=8,
        num_heads=2,
        depth=1,
    )
    arrays = {
        name: np.ones(shape, np.float32)
        for name, shape in climax_weights.map_of(sizes).source_shapes.items()
    }
    params = climax_weights.map_of(sizes).to_params(arrays)
    source = tmp_path / "x.npz"
    climax_checkpoint.save(source, params, sizes)
    target = str(tmp_path / "y.npz")
    assert _run(source, target, "--format", "weatherlib") == 2
    assert "a checkpoint of weatherlib already" in capsys.readouterr().err
    assert _run(source, target, "--grid", "8x16") == 2
    assert "export this one first" in capsys.readouterr().err
    assert _run(source, target) == 0
    assert set(flat.read(target).arrays) == {f"net.{name}" for name in arrays}
