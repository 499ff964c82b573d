"""What the page on ConvLSTM says of parameters, and its examples."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from tests.docs import test_pages
from weatherlib import config
from weatherlib.baselines import convlstm_config, convlstm_network
from weatherlib.baselines.fields import Fields
from weatherlib.nn.edges import ZERO

_PAGE = "docs/explanation/convlstm.md"
_TEXT = (pathlib.Path(__file__).parents[2] / _PAGE).read_text("utf8")
_ROWS = re.findall(
    r"^\| (ConvLSTM\w*) \| (?:`(.*)`)? ?\| (\d+) \| ([\d,]+) \|$", _TEXT, re.M
)


def test_the_table_has_rows():
    assert len(_ROWS) == _TEXT.count("\n| ConvLSTM")
    assert len(_ROWS) > 10


@pytest.mark.parametrize(("name", "settings", "variables", "expected"), _ROWS)
def test_the_page_counts_parameters_right(name, settings, variables, expected):
    import haiku as hk

    kind = getattr(convlstm_config, f"{name}Config")
    sizes = config.from_dict(kind, yaml.safe_load(settings or "{}"))
    outputs = int(variables)

    def run():
        fields = Fields(
            jnp.zeros((1, 12, 32, 64, outputs)),
            jnp.zeros((1, 4, 32, 64, 0)),
            jnp.zeros((1, 32, 64, 0)),
        )
        network = getattr(convlstm_network, f"{name}Network")
        return network(sizes)(fields, ZERO, outputs)

    params = jax.eval_shape(hk.transform(run).init, jax.random.PRNGKey(0))
    found = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert f"{found:,}" == expected


def test_the_examples_run_and_frames_one_by_one_give_the_forecast():
    page = test_pages._run(_PAGE)
    np.testing.assert_allclose(page["prediction"], page["at_once"], atol=1e-5)
    nowcast, radar = page["nowcast"], page["radar"]
    assert nowcast["reflectivity"].shape == (1, 2, 12, 16)
    assert np.isfinite(nowcast["reflectivity"]).all()
    expected = radar["datetime"].values[0, -1] + np.array([5, 10], "timedelta64[m]")
    np.testing.assert_array_equal(nowcast["datetime"].values[0], expected)
    assert page["nowcasts"].traces == 1
