"""Shared fixtures, and run-time shape checks on the array code."""

import contextlib
import gc
import os
import pathlib

import hypothesis
import jaxtyping
import pytest

# The hook below imports the package alone.
from tests import typecheck  # noqa: F401

# A first example compiles, and a busy machine is slow: neither is a failure.
hypothesis.settings.register_profile("weatherlib", deadline=None)
hypothesis.settings.load_profile("weatherlib")

# Traces are many long-lived objects: looking through them again and again costs time.
gc.set_threshold(50_000, 20, 50)

# Two thirds of the time goes into compiling programs that run for an instant. This
# makes it faster, and what is compiled slower, here and in processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Some tests need it, and it must come before eccodes, which xarray loads.
with contextlib.suppress(ImportError):
    import pyproj  # noqa: F401

GOLDENS = pathlib.Path(__file__).parent / "goldens"
REPEATS = pathlib.Path(__file__).parent / "repeats.txt"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks cases slow that repeat what faster ones show."""
    lines = REPEATS.read_text(encoding="utf8").splitlines()
    repeats = {f"tests/{line}" for line in lines if not line.startswith("#")}
    for item in items:
        if item.nodeid in repeats:
            item.add_marker(pytest.mark.slow)


# Only array code: a user's mistake should meet our own message first, not this one.
jaxtyping.install_import_hook(
    [
        "weatherlib.nn",
        "weatherlib.geometry",
        "weatherlib.baselines.flattened",
        "weatherlib.baselines.linear_network",
        "weatherlib.baselines.convlstm_network",
        "weatherlib.baselines.network",
        "weatherlib.baselines.convolution_network",
        "weatherlib.baselines.sequence_network",
        "weatherlib.baselines.weather_transformer_network",
        "weatherlib.climax.aggregation",
        "weatherlib.climax.network",
        "weatherlib.diffusion.ema",
        "weatherlib.diffusion.forward",
        "weatherlib.diffusion.losses",
        "weatherlib.diffusion.sampling",
        "weatherlib.graphcast.network",
        "weatherlib.latent.codec",
        "weatherlib.latent.decoder",
        "weatherlib.latent.direct",
        "weatherlib.latent.dit",
        "weatherlib.latent.encoder",
        "weatherlib.latent.forecast_network",
        "weatherlib.latent.layers",
        "weatherlib.latent.representation",
        "weatherlib.prediff.alignment",
        "weatherlib.prediff.latent_diffusion",
        "weatherlib.prediff.levels",
        "weatherlib.prediff.network",
    ],
    "tests.typecheck.check",
)


@pytest.fixture
def strict_numerics():
    """Makes implicit dtype and rank promotion raise inside the test."""
    import jax

    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        yield


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """The folder of published inputs and outputs."""
    return GOLDENS
