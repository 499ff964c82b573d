"""What the page on training PreDiff shows runs."""

import numpy as np
import pytest

from tests.docs import test_pages
from tests.prediff import stage_cases
from weatherlib import prediff
from weatherlib.prediff import latent_stage, stage_config


@pytest.fixture(scope="module")
def page():
    return test_pages._run("docs/how-to/prediff-training.md")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model without networks, and an alignment network."""
    monkeypatch.setattr(latent_stage, "forecast_model", stage_cases.toy_model)
    for name, config in (
        (stage_config.PREDIFF_DENOISER, stage_cases.DENOISER),
        (stage_config.PREDIFF_ALIGNMENT, stage_cases.ALIGNMENT),
    ):
        weights = stage_cases.params(config)
        schedule = config.diffusion.schedule.replace(steps=40)
        noise = config.diffusion.replace(schedule=schedule)
        config = config.replace(diffusion=noise)
        stage_cases.save(tmp_path / f"{name}.npz", config, weights, name)
    return tmp_path


def test_the_model_of_the_page_opens_with_its_guide(page, folder):
    nowcast = page["open_model"](
        str(folder / "prediff.npz"), str(folder / "prediff_alignment.npz")
    )
    assert nowcast.members == 8
    assert nowcast.config.sampler.steps == 20


def test_the_constraint_of_the_page_moves_the_left_half(page, folder):
    context = stage_cases.pixels(2, stage_cases.PAST)

    def run(guide):
        nowcast = prediff.open_nowcaster(folder / "prediff.npz", members=2, guide=guide)
        return nowcast(context, 2)[..., :4].mean((0, 2, 3, 4))

    wanted = context[:, -1].mean((1, 2))
    free, found = run(None), run(page["guide"])
    assert (np.abs(found - wanted) < np.abs(free - wanted)).all()
