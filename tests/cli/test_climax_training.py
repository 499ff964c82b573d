"""ClimaX pre-trained at random lead times on several sources, and tuned from there."""

import json

import numpy as np
import pytest
import xarray
import yaml

from tests.training import toys
from weatherlib import climax
from weatherlib.cli import main, models
from weatherlib.training import records

P = toys.PRESSURE


def _task(*variables, levels=(500, 850), duration="6h", targets=None):
    return {
        "input_variables": list(variables),
        "target_variables": list(targets or variables),
        "forcing_variables": [],
        "pressure_levels": list(levels),
        "input_duration": duration,
    }


def _model(*names, **changes):
    return {
        "family": "climax", "img_size": [4, 8], "embed_dim": 8, "num_heads": 2,
        "depth": 1, "decoder_depth": 0, "default_vars": list(names), **changes,
    }  # fmt: skip


VARIABLES = (P, "geopotential_500", "geopotential_850")


def _write(folder, name, **changes):
    values = {
        "output": str(folder / name),
        "data": {
            "path": str(folder / "weather.nc"),
            "task": _task(P, "geopotential"),
            "train": {"end": "2020-01-12"},
        },
        "model": _model(*VARIABLES),
        "schedule": {"kind": "climax", "peak": 0.01, "start": 1e-8, "warmup": 2},
        "stages": [{"steps": 4, "batch_size": 2, "lead": "12h"}],
        "optimizer": {"ema": 0.9},
        "checkpoint_every": 2,
        "log_every": 1,
        "license": "CC0-1.0",
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values[key], **value} if key == "data" else value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _train(path, *words):
    return main.main(["train", str(path), *words])


def _set(*changes):
    return [word for change in changes for word in ("--set", change)]


def _pretraining(folder):
    """Settings of a run on weather, on other weather every 12 h, and on shards."""
    return {
        "data": {
            "validation": {"start": "2020-01-12"},
            "weight": 2.0,
            "sources": [
                {
                    "path": str(folder / "other.nc"),
                    "time_step": "12h",
                    "task": _task("geopotential", levels=[850], duration="12h"),
                    "train": {"end": "2021-01-14"},
                },
                {
                    "path": str(folder / "shards"),
                    "name": "cmip6",
                    "task": _task(P, levels=[]),
                    "train": {},
                    "statistics": "shared",
                },
            ],
        },
        "stages": [
            {
                "steps": 8,
                "batch_size": 2,
                "lead": {"shortest": "6h", "longest": "48h"},
            }
        ],
        # The same for a shorter run, so that one can be cut.
        "schedule": {"kind": "constant", "peak": 0.01},
        "validation": {"every": 4, "samples": 2, "batch_size": 2},
    }


def _write_shards(folder):
    """Writes a year of pressure in the published layout, on the grid of the weather."""
    weather = toys.weather(frames=365)
    folder.mkdir()
    year = np.repeat(weather[P].values[0, :, None], 4, axis=0)
    for number, part in enumerate(np.split(year, 4)):
        np.savez(folder / f"2000_{number}.npz", **{P: part})
    np.save(folder / "lat.npy", weather["lat"].values)
    np.save(folder / "lon.npy", weather["lon"].values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data and a finished pre-training."""
    folder = tmp_path_factory.mktemp("climax")
    toys.weather().to_netcdf(folder / "weather.nc")
    other = toys.weather(start="2021-01-01", seed=1)
    other["geopotential"] = other["geopotential"] + 500
    other.to_netcdf(folder / "other.nc")
    _write_shards(folder / "shards")
    assert _train(_write(folder, "pre", **_pretraining(folder))) == 0
    return folder


def _checkpoint(run):
    return models.load_model(run / "checkpoint.npz")


def _flat(params):
    return {f"{m}/{n}": x for m, entries in params.items() for n, x in entries.items()}


def test_pre_training_takes_every_source_in_turn(folder):
    found = [r for r in records.read_records(folder / "pre") if r["kind"] == "train"]
    assert [r["step"] for r in found] == list(range(1, 9))
    assert all(np.isfinite(r["loss"]) for r in found)
    model = _checkpoint(folder / "pre")
    assert model.model_config.lead_hours == (6, 48)
    assert model.task_config.input_variables == (P, "geopotential")
    own = xarray.load_dataset(folder / "pre" / "sources" / "other" / "stats"
                              / "mean_by_level.nc")  # fmt: skip
    main_mean = xarray.load_dataset(folder / "pre" / "stats" / "mean_by_level.nc")
    higher = own["geopotential"].sel(level=850) - main_mean["geopotential"].sel(
        level=850
    )
    assert float(higher) == pytest.approx(500, abs=20)
    # Statistics that are shared are computed once.
    assert not (folder / "pre" / "sources" / "cmip6").exists()


def test_validation_takes_leads_of_the_range(folder):
    found = records.read_records(folder / "pre")
    judged = [r for r in found if r["kind"] == "validation"]
    assert set(judged[-1]["losses"]) == {"6h", "30h", "48h"}
    assert set(judged[-1]["rmse"][P]) == {"6h", "30h", "48h"}
    page = (folder / "pre" / "report.html").read_text()
    assert "<td class=n>30h</td>" in page


@pytest.mark.slow
def test_a_continued_pre_training_gives_the_same_numbers(folder):
    path = _write(folder, "halves", **_pretraining(folder))
    assert _train(path, *_set("stages.0.steps=4")) == 0
    assert _train(path, "--resume") == 0
    one, two = (
        [(r["step"], r["loss"]) for r in records.read_records(folder / name)
         if r["kind"] == "train"]
        for name in ("halves", "pre")
    )  # fmt: skip
    assert one == two
    params = [_flat(_checkpoint(folder / n).params) for n in ("halves", "pre")]
    for name, value in params[0].items():
        np.testing.assert_array_equal(value, params[1][name])


def _init(folder, **changes):
    return {"path": str(folder / "pre" / "checkpoint.npz"), **changes}


def test_one_lead_time_is_tuned_from_the_weights_as_they_are(folder):
    path = _write(folder, "tuned", init_from=_init(folder))
    assert _train(path, *_set("optimizer.layer_decay=0.5", "schedule.peak=0.0001")) == 0
    model = _checkpoint(folder / "tuned")
    assert model.model_config.lead_hours == (12, 12)
    before = _flat(_checkpoint(folder / "pre").params)
    after = _flat(model.params)
    moved = {n: np.abs(after[n] - before[n]).max() for n in after}
    assert 0 < max(moved.values()) < 0.01
    first, last = moved["climax/var_embed"], moved["climax/head/linear_0/b"]
    assert first < 0.2 * last


def test_new_variables_another_grid_and_history_are_added(folder, capsys):
    fine = toys.weather(lat=8, lon=16)
    temperature = fine[P] / 400
    fine["2m_temperature"] = temperature.assign_attrs(units="K")
    fine.to_netcdf(folder / "fine.nc")
    model = _model("2m_temperature", *VARIABLES[1:], img_size=[8, 16], time_history=2)
    path = _write(
        folder, "wide", model=model, init_from=_init(folder, adapt=True),
        data={
            "path": str(folder / "fine.nc"),
            "task": _task("2m_temperature", "geopotential", duration="12h"),
        },
        optimizer={
            "frozen": ["*"], "trained": ["*norm*", "climax/head/*"], "ema": 0.9,
        },
    )  # fmt: skip
    assert _train(path) == 0
    out = capsys.readouterr().out
    assert "init_from: pos_embed interpolated from 2x4 to 4x8 patches" in out
    assert "init_from: fresh embeddings of new variables: 2m_temperature" in out
    assert "climax/time_neck/qkv" in out
    before = _flat(_checkpoint(folder / "pre").params)
    after = _flat(_checkpoint(folder / "wide").params)
    np.testing.assert_array_equal(
        after["climax/block_0/attn/qkv/w"], before["climax/block_0/attn/qkv/w"]
    )
    np.testing.assert_array_equal(
        after["climax/token_embed/w"][1:], before["climax/token_embed/w"][1:]
    )
    changed = np.abs(after["climax/block_0/norm1/scale"] - 1)
    assert changed.max() > np.abs(before["climax/block_0/norm1/scale"] - 1).max()


@pytest.mark.slow
def test_adapters_leave_plain_weights_and_all_else_alone(folder, capsys):
    path = _write(
        folder, "adapters", init_from=_init(folder),
        adapters={"patterns": ["*/attn/qkv/w"], "rank": 2},
    )  # fmt: skip
    assert _train(path) == 0
    before = _flat(_checkpoint(folder / "pre").params)
    after = _flat(_checkpoint(folder / "adapters").params)
    assert set(after) == set(before)
    moved = {name for name in after if not np.array_equal(after[name], before[name])}
    assert moved == {"climax/block_0/attn/qkv/w"}
    for name in moved:
        assert np.linalg.matrix_rank(after[name] - before[name], tol=1e-6) <= 2
    capsys.readouterr()
    words = ["--model", str(folder / "adapters" / "checkpoint.npz"), "--lead", "12h"]
    assert main.main(["predict", *words, "--data", str(folder / "weather.nc"),
                      "--conform", "--var", P, "--out-dir", str(folder / "out"),
                      "--output", str(folder / "out.nc")]) == 0  # fmt: skip


def test_a_published_file_is_tuned_on_other_variables(folder, goldens, capsys):
    sizes = json.loads((goldens / "climax" / "config.json").read_text())["config"]
    path = _write(
        folder, "published",
        model=_model(*VARIABLES, embed_dim=64, num_heads=4, decoder_depth=2),
        init_from={
            "path": str(goldens / "climax" / "global.ckpt"), "adapt": True,
            "variables": sizes["default_vars"], "skip": ["climax/head/*"],
        },
        optimizer={"frozen": ["*"], "trained": ["climax/head/*"], "ema": 0.0},
    )  # fmt: skip
    assert _train(path) == 0
    out = capsys.readouterr().out
    assert "rows of new variables left at initial values: mean_sea_level" in out
    found = _flat(_checkpoint(folder / "published").params)
    with np.load(goldens / "climax" / "global_weights.npz") as weights:
        expected = weights["blocks.0.mlp.fc1.weight"].T
        row = sizes["default_vars"].index("geopotential_500")
        np.testing.assert_array_equal(found["climax/block_0/mlp/fc1/w"], expected)
        np.testing.assert_array_equal(
            found["climax/var_embed"][1], weights["var_embed"][0, row]
        )


def test_the_plan_names_sources_and_lead_times(folder, capsys):
    path = _write(folder, "plan", **_pretraining(folder))
    assert _train(path, "--dry-run") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "8 updates, lead 6h to 48h" in out
    assert f"{folder}/other.nc, 60 frames" in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["stages.0.lead=9h"], "lead, .*weather.nc: 9h is no multiple of the step"),
        (["stages.0.lead=60d"], "no 241 of them"),
        (
            ["data.validation.start=2020-01-13", "validation.lead=7h"],
            "7h is no multiple",
        ),
        (
            ["model={family: residual_cnn}"],
            r"stages\[0\].lead: this family predicts one step",
        ),
        (["init_from.path=/no/file.ckpt"], "/no/file.ckpt does not exist"),
        (["init_from.skip=[x]"], "init_from.skip: no parameter matches 'x'"),
        (
            ["model.default_vars=[geopotential_850, geopotential_500, "
             "mean_sea_level_pressure]"],
            "init_from.adapt: true carries them over",
        ),
        (["model.depth=2"], "it lacks climax/block_1"),
        (["adapters={patterns: [climax/var_embed/x]}"], "adapters.patterns: no param"),
        (["optimizer.trained=[x]"], "optimizer.trained: no parameter matches"),
        (["data.sources=[{path: other.nc, name: o/o}]"], "cannot name a folder"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_line_and_code_2(
    folder, tmp_path, capsys, changes, message
):
    import re

    path = _write(folder, "wrong", init_from=_init(folder))
    assert _train(path, *_set(f"output={tmp_path}", *changes)) == 2
    err = capsys.readouterr().err
    assert re.search(message, err, re.S), err
    assert "Traceback" not in err


def test_a_source_that_does_not_fit_is_named(folder, tmp_path, capsys):
    changes = _pretraining(folder)
    changes["data"]["sources"][0]["task"] = _task(
        "temperature", levels=[850], duration="12h"
    )
    path = _write(folder, "wrong", **changes)
    assert _train(path, *_set(f"output={tmp_path}")) == 2
    err = capsys.readouterr().err
    assert "data.sources, other: temperature: not in" in err


def test_a_family_with_parameters_of_its_variables_takes_no_other_set(
    folder, tmp_path, capsys
):
    changes = _pretraining(folder)
    del changes["data"]["sources"][1]
    changes["stages"] = [{"steps": 2, "batch_size": 2}]
    changes["data"]["sources"][0]["task"]["input_duration"] = "12h"
    changes["model"] = {"family": "residual_cnn", "width": 4, "dilations": [1]}
    path = _write(folder, "wrong", **changes)
    assert _train(path, *_set(f"output={tmp_path}")) == 2
    assert "the model has other parameters for it" in capsys.readouterr().err


def test_the_weights_of_a_run_are_a_climax(folder):
    assert isinstance(_checkpoint(folder / "pre").model_config, climax.ClimaXConfig)
