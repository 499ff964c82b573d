"""The picture of ClimaX and the script that draws it."""

import importlib.util
import pathlib

import haiku as hk
import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from weatherlib import climax
from weatherlib.climax import network, parameters

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    path = _ROOT / "scripts" / "draw_climax.py"
    spec = importlib.util.spec_from_file_location("draw_climax", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shapes_are_those_that_the_network_computes(script):
    sizes = climax.ClimaXConfig(
        default_vars=("a", "b", "c"), img_size=(8, 12), patch_size=2, embed_dim=8,
        num_heads=2, depth=2,
    )  # fmt: skip
    found = script.read_shapes(sizes, batch=2)
    fields = jnp.ones((2, 1, 3, 8, 12))

    def run(fields, hours):
        return network.ClimaXNetwork(sizes)(fields, hours, (0, 1, 2), (0, 1, 2))

    transformed = hk.without_apply_rng(hk.transform(run))
    params = transformed.init(jax.random.PRNGKey(0), fields, jnp.full(2, 6.0))
    output = transformed.apply(params, fields, jnp.full(2, 6.0))
    assert found["fields"] == fields.shape
    assert found["token_embed"] == params["climax/token_embed"]["w"].shape
    assert found["patches"] == (2, 24, 3, 4)
    assert found["aggregation_weights"] == output.weights[:, 0].shape
    assert found["aggregated"] == output.aggregated.shape
    assert found["embedded"] == found["encoding"] == output.encoding.shape
    assert found["head"] == (2, 24, 4, 3)
    assert found["predictions"] == output.fields.shape
    total = sum(np.prod(p.shape) for p in jax.tree.leaves(params))
    assert found["parameters"] == (total,)


@pytest.mark.parametrize("config", climax.PUBLISHED_CONFIGS)
def test_the_script_prints_and_draws_the_published_sizes(
    script, config, tmp_path, capsys
):
    path = tmp_path / "climax.png"
    script.main(["--config", config, "--output", str(path)])
    lines = capsys.readouterr().out.splitlines()
    printed = dict(line.split(maxsplit=1) for line in lines)
    sizes = climax.PUBLISHED_CONFIGS[config]
    shapes = parameters.parameter_shapes(sizes)
    total = sum(np.prod(s) for part in shapes.values() for s in part.values())
    assert printed["parameters"] == f"[{total}]"
    assert printed["encoding"] == f"[1, {sizes.patches}, 1024]"
    image = matplotlib.image.imread(path)
    assert image[..., :3].std() > 0.05
    shown = matplotlib.image.imread(_ROOT / "docs" / "images" / "climax.png")
    assert shown.shape == image.shape
