"""GraphCast against the published outputs, in float32 and in bfloat16."""

import dataclasses
import functools
import json

import haiku as hk
import jax
import numpy as np
import pytest
import xarray

from tests import tolerances
from tests.conftest import GOLDENS
from tests.rollout import goldens
from weatherlib import autoregressive, data_utils, rollout, xarray_jax

CASES = ("a", "b")
PRECISIONS = ("f32", "bf16")


@functools.cache
def scalars(name):
    folder = GOLDENS / "graphcast" / goldens.CASES[name]
    return json.loads((folder / "scalars.json").read_text())


@functools.cache
def first_step(name):
    """Returns inputs, targets and forcings of the one-step outputs."""
    case = goldens.case(name)
    return data_utils.extract_inputs_targets_forcings(
        case.source,
        target_lead_times=slice("6h", "6h"),
        **dataclasses.asdict(case.task),
    )


def predictor_function(case, precision):
    def run(inputs, targets, forcings):
        predictor = case.make_rollout(precision)
        return predictor(inputs, targets_template=targets, forcings=forcings)

    return hk.transform(run)


def assert_close(case, found, expected, precision, limits):
    largest, mean = case.difference(found, expected)
    if precision == "f32":
        assert largest < limits[0]
    else:
        assert largest < limits[1][0]
        assert mean < limits[1][1]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", CASES)
def test_one_step_gives_the_published_forecast(name, precision):
    case = goldens.case(name)
    run = jax.jit(predictor_function(case, precision).apply)
    found = run(case.params, None, *first_step(name))
    found = found.map(lambda array: array.copy(data=np.asarray(array.data)))
    folder = GOLDENS / "graphcast" / goldens.CASES[name]
    expected = xarray.load_dataset(
        folder / f"pred_1step_{precision}.nc", decode_timedelta=True
    )
    limits = tolerances.FORECAST_F32_ONE_STEP, tolerances.FORECAST_BF16_ONE_STEP
    assert_close(case, found, expected, precision, limits)


@pytest.mark.parametrize(("precision", "chunk"), [("f32", 2), ("bf16", 1)])
@pytest.mark.parametrize("name", CASES)
def test_rollouts_give_the_published_forecast(name, precision, chunk):
    case = goldens.case(name)
    transformed = predictor_function(case, precision)
    apply = jax.jit(transformed.apply)

    def predict(rng, inputs, targets_template, forcings):
        return apply(case.params, rng, inputs, targets_template, forcings)

    found = rollout.chunked_prediction(
        predict,
        rng=jax.random.PRNGKey(0),
        inputs=case.inputs,
        targets_template=case.targets * np.nan,
        forcings=case.forcings,
        num_steps_per_chunk=chunk,
    )
    limits = tolerances.FORECAST_F32_ROLLOUT, tolerances.FORECAST_BF16_ROLLOUT
    assert_close(case, found, case.expected(precision), precision, limits)


@pytest.mark.parametrize(
    ("name", "precision", "length"),
    [
        ("a", "f32", "1step"),
        *(
            pytest.param(*case, "1step", marks=pytest.mark.slow)
            for case in (("a", "bf16"), ("b", "f32"))
        ),
        ("b", "bf16", "1step"),
        pytest.param("a", "f32", "Nstep", marks=pytest.mark.slow),
        ("b", "bf16", "Nstep"),
    ],
)
def test_loss_diagnostics_and_gradients_are_the_published_ones(name, precision, length):
    case = goldens.case(name)
    data = (case.inputs, case.targets, case.forcings)
    if length == "1step":
        data = first_step(name)

    def run(inputs, targets, forcings):
        # Checkpointing is part of the published training and must change nothing.
        predictor = autoregressive.Predictor(
            case.make_predictor(precision), gradient_checkpointing=length == "Nstep"
        )
        return predictor.loss(inputs, targets, forcings)

    def mean_loss(params, *data):
        loss, diagnostics = hk.transform(run).apply(params, None, *data)
        return xarray_jax.unwrap_data(loss.mean()), {
            key: xarray_jax.unwrap_data(value.mean())
            for key, value in diagnostics.items()
        }

    differentiate = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    (loss, diagnostics), gradients = differentiate(case.params, *data)

    steps = 1 if length == "1step" else case.steps
    expected = scalars(name)["losses"][f"{precision}_{steps}step"]
    loss_limit = {"f32": tolerances.LOSS_F32, "bf16": tolerances.LOSS_BF16}[precision]
    np.testing.assert_allclose(loss, expected["loss"], rtol=loss_limit)
    assert diagnostics.keys() == expected["diagnostics"].keys()
    for key, value in expected["diagnostics"].items():
        np.testing.assert_allclose(diagnostics[key], value, rtol=loss_limit)
    assert_gradients(gradients, expected, precision)


def assert_gradients(gradients, expected, precision):
    global_limit, array_limit = {
        "f32": (tolerances.GRADIENT_F32_GLOBAL, tolerances.GRADIENT_F32_ARRAY),
        "bf16": (tolerances.GRADIENT_BF16_GLOBAL, tolerances.GRADIENT_BF16_ARRAY),
    }[precision]
    norms = {
        f"{module}/{name}": float(np.linalg.norm(np.asarray(value, np.float64)))
        for module, arrays in gradients.items()
        for name, value in arrays.items()
    }
    total = np.linalg.norm(list(norms.values()))
    np.testing.assert_allclose(total, expected["grad_global_norm"], rtol=global_limit)
    assert norms.keys() == expected["grad_leaf_norms"].keys()
    for path, norm in expected["grad_leaf_norms"].items():
        np.testing.assert_allclose(norms[path], norm, rtol=array_limit, err_msg=path)


@pytest.mark.parametrize("name", ["a", pytest.param("b", marks=pytest.mark.slow)])
def test_a_fresh_initialisation_has_the_published_values(name):
    case = goldens.case(name)
    init = jax.jit(predictor_function(case, "f32").init)
    params = init(jax.random.PRNGKey(0), *first_step(name))
    expected = scalars(name)["init_leaf_norms"]
    norms = {
        f"{module}/{key}": np.linalg.norm(np.asarray(value, np.float64))
        for module, arrays in params.items()
        for key, value in arrays.items()
    }
    assert norms.keys() == expected.keys()
    for path, norm in expected.items():
        np.testing.assert_allclose(norms[path], norm, rtol=1e-6, err_msg=path)
