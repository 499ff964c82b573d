"""All stages of PreDiff trained and tested by the script, from published keys."""

import csv

import pytest
import xarray
import yaml

from tests.cli import radar_runs
from tests.examples import scripts
from weatherlib.cli import models
from weatherlib.prediff import stages

NETWORK = {
    "base_units": 4, "depth": [1], "num_heads": 1, "self_pattern": "axial",
    "time_embed_use_scale_shift_norm": True,
}  # fmt: skip
VALUES = {
    "dataset": {
        "dataset_name": "radar", "stride": 4, "in_len": 3, "out_len": 2, "seq_len": 5,
        "train_test_split_date": [2020, 6, 1, 2, 40], "img_height": 16, "img_width": 16,
        "threshold_list": [16, 74],
    },
    "layout": {"in_len": 3, "out_len": 2},
    "optim": {"total_batch_size": 2, "lr": 0.01},
    "model": {
        "vae": {
            "in_channels": 1, "out_channels": 1, "latent_channels": 2,
            "block_out_channels": [4, 4], "layers_per_block": 1, "norm_num_groups": 2,
        },
        "latent_model": {
            "input_shape": [3, 8, 8, 2], "target_shape": [2, 8, 8, 2], **NETWORK
        },
        "diffusion": {"timesteps": 10, "linear_end": 0.3, "use_ema": True},
        "align": {
            "alignment_type": "avg_x",
            "guide_scale": 50.0,
            "model_args": {
                "input_shape": [2, 8, 8, 2], "out_len": 2, "out_channels": 1,
                **{k: v for k, v in NETWORK.items() if k != "self_pattern"},
                "block_attn_patterns": "axial",
            },
        },
    },
    "vis": {"num_samples_per_context": 2},
    "weatherlib": {
        "all": {"stages": [{"steps": 2, "batch_size": 2}], "schedule": {"peak": 0.01}}
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    module = scripts.load("nowcast")
    yield module


@pytest.mark.slow
def test_all_stages_are_trained_and_guided_members_scored(example, tmp_path, capsys):
    radar_runs.series().to_netcdf(tmp_path / "radar.nc")
    values = {**VALUES, "summary": {"summary_dir": str(tmp_path / "out")}}
    values["dataset"] = {**VALUES["dataset"], "root_dir": str(tmp_path / "radar.nc")}
    (tmp_path / "cfg.yaml").write_text(yaml.safe_dump(values))
    words = ["--cfg", str(tmp_path / "cfg.yaml")]
    for stage in ("autoencoder", "denoiser", "alignment"):
        assert example.main([*words, "--mode", "train", "--stage", stage]) == 0
    out = {name: tmp_path / "out" / name / "checkpoint.npz"
           for name in ("autoencoder", "denoiser", "alignment")}  # fmt: skip
    coder = stages.open_autoencoder(out["autoencoder"])
    model = models.load_model(out["denoiser"])
    assert model.model_config.digest == stages.digest(coder.params)
    assert model.model_config.denoiser.block_attn_patterns == "axial"
    reader = stages.open_alignment(out["alignment"])
    assert reader.model_config.digest == model.model_config.digest
    capsys.readouterr()
    test = ["--mode", "test", "--samples", "2", "--guide", "--sampler", "ddim:2"]
    assert example.main([*words, *test]) == 0
    folder = tmp_path / "out" / "denoiser" / "test"
    scores = xarray.load_dataset(folder / "scores.nc", decode_timedelta=True)
    members = dict(zip(scores["model"].values.tolist(), scores["members"].values))
    assert members["denoiser"] == members["denoiser, guided"] == 2
    assert {"persistence", "extrapolation", "denoiser (members)"} <= set(members)
    with (folder / "scores.csv").open() as file:
        leads = {row["lead_minutes"] for row in csv.DictReader(file)}
    assert leads == {"5", "10", "all"}
    assert "denoiser, guided" in capsys.readouterr().out
