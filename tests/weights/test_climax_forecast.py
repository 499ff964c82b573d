"""Published files, through our readers and our network, give the published numbers."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.climax import published
from weatherlib.cli import main as command
from weatherlib.climax import network
from weatherlib.weights import climax


def _forecast(loaded, name, hours):
    """Returns what the network makes of a published case."""
    sizes, case = loaded.config, published.listed()["expected"].get(name, {})
    data = published.arrays(name)
    inputs = published.ids(
        sizes.default_vars, case.get("variables", sizes.default_vars)
    )
    names = sizes.out_variables or sizes.default_vars
    outputs = published.ids(names, case.get("out_variables", names))

    def run(fields, lead):
        return network.ClimaXNetwork(sizes)(fields, lead, inputs, outputs, None, False)

    fields = jnp.asarray(data["x"])
    fields = fields if fields.ndim == 5 else fields[:, np.newaxis]
    found = jax.jit(hk.transform(run).apply)(loaded.params, None, fields, hours)
    np.testing.assert_allclose(
        found.fields,
        data["preds"],
        rtol=tolerances.CLIMAX_RTOL,
        atol=tolerances.CLIMAX_ATOL,
    )


@pytest.mark.parametrize("parallel", [False, True])
def test_the_published_file_gives_the_published_forecast(parallel, goldens):
    sizes = published.config(parallel_patch_embed=parallel)
    loaded = climax.load(goldens / "climax" / "global.ckpt", sizes)
    lead = published.arrays("global_case0")["lead_times"]
    _forecast(loaded, "global_case0", 100 * jnp.asarray(lead))


def test_the_published_projection_file_gives_the_published_projection(goldens):
    sizes = published.projection_config()
    loaded = climax.load(goldens / "climax" / "projection.ckpt", sizes)
    lead = published.arrays("projection_case0")["lead_times"]
    _forecast(loaded, "projection_case0", 100 * jnp.asarray(lead))


def test_variables_in_another_order_forecast_the_same_when_matched_by_name(goldens):
    names = published.config().default_vars
    sizes = published.config(default_vars=(*names[7:], *names[:7]))
    loaded = climax.load(
        goldens / "climax" / "global.ckpt",
        sizes,
        match="name",
        source_variables=names,
    )
    lead = published.arrays("global_case0")["lead_times"]
    _forecast(loaded, "global_case0", 100 * jnp.asarray(lead))


def test_an_export_forecasts_the_same(goldens, tmp_path):
    sizes = published.config()
    source = str(goldens / "climax" / "global.ckpt")
    target = str(tmp_path / "x.safetensors")
    options = ["--num-heads", str(sizes.num_heads), "--strict"]
    options += ["--variables", *sizes.default_vars]
    assert command.main(["weights", "convert", source, target, *options]) == 0
    lead = published.arrays("global_case1")["lead_times"]
    _forecast(climax.load(target, sizes), "global_case1", 100 * jnp.asarray(lead))
