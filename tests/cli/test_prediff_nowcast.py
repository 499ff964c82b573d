"""PreDiff through `weatherlib nowcast`: members, samplers, guidance and their files."""

import csv

import numpy as np
import pytest
import xarray
import yaml

from tests.cli import radar_runs
from tests.prediff import stage_cases
from weatherlib import diffusion, prediff
from weatherlib.cli import console, main, nowcasters, nowcasting
from weatherlib.prediff import latent_stage, stage_config

GUIDED = ("--guide", "50:1.5", "--alignment", "{alignment}")


@pytest.fixture(autouse=True, scope="module")
def toy():
    """Puts functions without networks in place of autoencoder and denoiser."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_stage, "forecast_model", stage_cases.toy_model)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A radar file, and runs of denoiser and alignment network on pieces of it."""
    folder = tmp_path_factory.mktemp("prediff")
    radar_runs.series().to_netcdf(folder / "radar.nc")
    values = {"path": str(folder / "radar.nc"), **radar_runs.VALUES["data"]}
    values["radar"] = {"inputs": 3, "stride": 2, "tile": 8}
    for name, config in (
        (stage_config.PREDIFF_DENOISER, stage_cases.DENOISER),
        (stage_config.PREDIFF_ALIGNMENT, stage_cases.ALIGNMENT),
    ):
        (folder / name).mkdir()
        weights = stage_cases.params(config)
        path = folder / name / "checkpoint.npz"
        stage_cases.save(path, config, weights, name)
    (folder / "prediff" / "config.yaml").write_text(yaml.safe_dump({"data": values}))
    return folder


def _run(folder, output, *words):
    """Returns the exit code of the command with the trained model."""
    places = {"alignment": folder / stage_config.PREDIFF_ALIGNMENT}
    words = [word.format(**places) for word in words]
    run = str(folder / "prediff")
    fixed = ["--samples", "3", "--references", "persistence", "--pools", "1", "--still"]
    return main.main(["nowcast", run, "--output", str(output), *fixed, *words])


def _samples(folder):
    data = nowcasting.read_data(folder / "prediff" / "config.yaml")
    return nowcasting.find_samples(data, nowcasting.find_period(data), 2)


@pytest.fixture(scope="module")
def judged(folder, tmp_path_factory):
    """The folder of scores of two members, with and without a guide."""
    output = tmp_path_factory.mktemp("scores")
    words = ("--members", "2", "--sampler", "ddim:3", "--batch-size", "2", *GUIDED)
    assert _run(folder, output, *words) == 0
    return output


def test_members_are_scored_with_and_without_a_guide(judged):
    names = {path.name for path in judged.iterdir()}
    assert names == {
        "scores.nc", "scores.csv", "csi.png", "rmse.png", "crps.png", "spectra.png",
        "case_1.png", "case_1.nc",
    }  # fmt: skip
    scores = xarray.load_dataset(judged / "scores.nc", decode_timedelta=True)
    assert scores["model"].values.tolist() == [
        "prediff", "prediff (members)", "prediff, guided",
        "prediff, guided (members)", "persistence",
    ]  # fmt: skip
    assert scores["members"].values.tolist() == [2, 1, 2, 1, 1]
    assert scores.sizes["lead_time"] == 2
    assert np.isfinite(scores["crps"]).all()
    assert (scores["ensemble_spread"].sel(model="prediff") > 0).all()
    free, guided = (scores["rmse"].sel(model=m) for m in ("prediff", "prediff, guided"))
    assert (np.abs(free - guided) > 1e-3).all()


def test_scores_over_all_leads_are_written_and_shown(judged):
    scores = xarray.load_dataset(judged / "scores.nc", decode_timedelta=True)
    mean = np.sqrt(scores["mse"].mean("lead_time"))
    np.testing.assert_allclose(scores["rmse_over_leads"], mean)
    with (judged / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["score"], row["at"]): float(row["value"])
        for row in rows
        if (row["model"], row["lead_minutes"]) == ("prediff", "all")
    }
    whole = scores.sel(model="prediff", pool=1)
    assert found["rmse", ""] == pytest.approx(float(whole["rmse_over_leads"]), rel=1e-6)
    csi = float(whole["csi_over_leads"].sel(threshold=16))
    assert found["csi", "pool=1 threshold=16"] == pytest.approx(csi, rel=1e-6)
    mean = float(whole["csi_mean_over_leads"])
    assert found["csi_mean", "pool=1"] == pytest.approx(mean, rel=1e-6)
    assert mean == pytest.approx(float(whole["csi_over_leads"].fillna(0).mean()))
    tables = {title: (heading, rows) for title, heading, rows in
              nowcasting.score_table(scores)}  # fmt: skip
    heading, rows = tables["RMSE, pixels"]
    assert heading == ["", "5 min", "10 min", "all"]
    assert rows[0][0] == "prediff"
    assert float(rows[0][3]) == pytest.approx(found["rmse", ""], rel=1e-2)


def test_what_is_drawn_is_what_was_scored(judged, folder):
    """Cases are drawn one by one, and scored in batches."""
    case = xarray.load_dataset(judged / "case_1.nc", decode_timedelta=True)
    samples = _samples(folder)
    numbers = nowcasting.choose(samples, 3)
    place = list(numbers).index(nowcasting.rainiest(samples, numbers, 1)[0])
    pixels = np.stack([samples.pixels(int(number)) for number in numbers])
    nowcast = prediff.open_nowcaster(
        folder / "prediff" / "checkpoint.npz",
        members=2,
        sampler=diffusion.SamplerConfig(kind="ddim", steps=3),
    )
    expected = nowcast(pixels[:, :3], 2)[:, place]
    assert case["nowcast_0"].attrs["model"] == "prediff"
    np.testing.assert_allclose(case["nowcast_0"], expected, atol=0.05)


def test_the_size_of_batches_changes_no_score(judged, folder, tmp_path):
    words = ("--members", "2", "--sampler", "ddim:3", "--batch-size", "3")
    assert _run(folder, tmp_path, *words, "--cases", "0") == 0
    found, expected = (
        xarray.load_dataset(path / "scores.nc", decode_timedelta=True)["crps"]
        for path in (tmp_path, judged)
    )
    expected = expected.sel(model=found["model"])
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_samplers_have_settings_and_their_steps_are_seen(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    seen = []
    make = diffusion.make_sampler

    def made(settings, *rest):
        seen.append(settings)
        return make(settings, *rest)

    monkeypatch.setattr(diffusion, "make_sampler", made)
    words = ("--members", "1", "--sampler", "dpm_solver:5:stochastic:spacing=log_snr")
    assert _run(folder, tmp_path, *words, "--cases", "0") == 0
    settings = {"steps": 5, "stochastic": True, "spacing": "log_snr"}
    assert seen == [diffusion.SamplerConfig(**settings)]
    printed = capsys.readouterr().out
    assert "Denoising: step 4 of 5, " in printed
    assert "Samples: 3 of 3" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sampler", "ddim:many"], "expected KIND[:STEPS][:SETTING]..."),
        (["--sampler", "ddim:21"], "sampler.steps 21: the schedule has 20"),
        (["--members", "0"], "members is at least 1, found 0"),
        (
            ["--guide", "50", "--alignment", "nowhere.npz"],
            "nowhere.npz does not exist",
        ),
    ],
)
def test_mistakes_with_what_draws_end_in_one_line(
    folder, tmp_path, capsys, words, said
):
    assert _run(folder, tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("minutes", [5, 10])
def test_a_model_of_other_time_steps_is_refused(folder, tmp_path, minutes):
    path = stage_cases.save(
        tmp_path / "checkpoint.npz",
        stage_cases.DENOISER,
        stage_cases.params(stage_cases.DENOISER),
        stage_config.PREDIFF_DENOISER,
        extras={"time_step": np.asarray(f"{minutes}min")},
    )
    options = nowcasters.Options(members=1)
    if minutes == 5:
        found = nowcasting.collect({"near": path}, (), _samples(folder), options)
        assert found["near"].step == np.timedelta64(5, "m")
        return
    with pytest.raises(ValueError, match="near: trained on frames 10 min apart"):
        nowcasting.collect({"near": path}, (), _samples(folder), options)


def test_another_network_does_not_guide(folder):
    path = folder / "prediff" / "checkpoint.npz"
    guide = nowcasters.Guide.parse("50", path)
    with pytest.raises(ValueError, match=r"an alignment network .* is needed"):
        nowcasters.open_nowcaster(path, nowcasters.Options(guide=guide))
