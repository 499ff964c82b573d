"""Tests of the network against published numbers, and of what it promises itself."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tolerances
from tests.climax import published
from weatherlib import climax
from weatherlib.climax import aggregation, network, parameters, regions
from weatherlib.nn import embedding, vit

CASES = ("global_case0", "global_case1")
TINY = climax.ClimaXConfig(
    default_vars=("a", "b", "c"),
    img_size=(4, 8),
    embed_dim=8,
    num_heads=2,
    depth=2,
    drop_rate=0.3,
    drop_path=0.5,
)
PROJECTION = TINY.replace(head="projection", time_history=3, out_variables=("x", "y"))
NECK = TINY.replace(time_history=2)
SIZES = pytest.mark.parametrize(
    "sizes",
    [
        TINY,
        pytest.param(PROJECTION, marks=pytest.mark.slow),
        pytest.param(NECK, marks=pytest.mark.slow),
    ],
)


def transform(sizes, inputs, outputs, remat=False, training=False, patch_ids=None):
    """Returns the jitted network as a function of fields and lead times."""

    def run(fields, hours):
        net = network.ClimaXNetwork(sizes, remat=remat)
        return net(fields, hours, inputs, outputs, patch_ids, training)

    transformed = hk.transform(run)
    return hk.Transformed(transformed.init, jax.jit(transformed.apply))


def assert_close(found, expected):
    np.testing.assert_allclose(
        found, expected, rtol=tolerances.CLIMAX_RTOL, atol=tolerances.CLIMAX_ATOL
    )


def run_case(name, sizes=None, weights=None, patch_ids=None):
    sizes = sizes or published.config()
    data = published.arrays(name)
    case = published.listed()["expected"][name]
    run = transform(
        sizes,
        published.ids(sizes.default_vars, case["variables"]),
        published.ids(sizes.default_vars, case["out_variables"]),
        patch_ids=patch_ids,
    )
    params = published.params(sizes, weights or published.arrays("global_weights"))
    fields = jnp.asarray(data["x"][:, np.newaxis])
    return run.apply(params, None, fields, 100 * jnp.asarray(data["lead_times"]))


@pytest.mark.parametrize("name", CASES)
def test_the_published_forecast_comes_out(name, strict_numerics):
    data = published.arrays(name)
    found = run_case(name)
    assert_close(found.encoding, data["encoder"])
    assert_close(found.fields, data["preds"])
    count = data["dbg_var_agg_out"].shape[1]
    assert_close(found.aggregated[:, 0, :count], data["dbg_var_agg_out"])


@pytest.mark.parametrize("name", CASES)
def test_the_tokens_of_each_variable_are_the_published_ones(name):
    """They never exist in the network, which folds them into the aggregation."""
    data = published.arrays(name)
    sizes = published.config()
    case = published.listed()["expected"][name]
    chosen = list(published.ids(sizes.default_vars, case["variables"]))
    params = published.params(sizes, published.arrays("global_weights"))
    embed = params["climax/token_embed"]
    pixels = np.asarray(vit.patches(jnp.asarray(data["x"][:1]), sizes.patch_size))[0]
    tokens = np.einsum("lvp,vpd->lvd", pixels[:8], embed["w"][chosen])
    tokens = tokens + (embed["b"] + params["climax"]["var_embed"])[chosen]
    assert_close(tokens, data["dbg_tokens_plus_var_embed_first8"])


@pytest.mark.parametrize("name", CASES)
def test_the_blocks_get_and_give_the_published_tokens(name):
    data = published.arrays(name)
    sizes = published.config()
    params = published.params(sizes, published.arrays("global_weights"))
    count = data["dbg_var_agg_out"].shape[1]
    lead = params["climax/lead_time_embed"]
    moved = data["lead_times"][:, None] * lead["w"] + lead["b"]
    begun = data["dbg_var_agg_out"] + params["climax"]["pos_embed"][:count]
    assert_close(begun + moved[:, None], data["dbg_block_input"])
    found = run_case(name).aggregated[:, 0]
    tokens = found + params["climax"]["pos_embed"] + moved[:, None]
    block = hk.transform(lambda x: vit.Block(sizes.num_heads, 256, name="block_0")(x))
    inner = {
        module.removeprefix("climax/"): entries
        for module, entries in params.items()
        if module.startswith("climax/block_0/")
    }
    first = jax.jit(block.apply)(inner, None, tokens)
    assert_close(first[:, :count], data["dbg_block0_out"])


def test_serial_and_parallel_checkpoints_make_the_same_network():
    sizes = published.config(parallel_patch_embed=True)
    serial = published.arrays("global_weights")
    count = len(sizes.default_vars)
    stacked = {
        "token_embeds.proj_weights": [
            serial[f"token_embeds.{i}.proj.weight"] for i in range(count)
        ],
        "token_embeds.proj_biases": [
            serial[f"token_embeds.{i}.proj.bias"] for i in range(count)
        ],
    }
    weights = {k: v for k, v in serial.items() if not k.startswith("token_embeds")}
    weights |= {name: np.stack(parts) for name, parts in stacked.items()}
    found = run_case(CASES[0], sizes, weights)
    np.testing.assert_array_equal(found.fields, run_case(CASES[0]).fields)


@pytest.mark.parametrize("region", ["NorthAmerica", "Australia"])
def test_the_published_regional_forecast_comes_out(region, strict_numerics):
    data = published.arrays(CASES[0])
    expected = published.arrays(f"regional_{region}")
    info = published.listed()["expected"]["regional"][region]["region_info"]
    sizes = published.config(region=region, mirrored_region=True)
    found = regions.find_region(sizes, data["f64_lat"], data["f64_lon"])
    np.testing.assert_array_equal(found.patch_ids.reshape(-1), info["patch_ids"])
    output = run_case(CASES[0], sizes, patch_ids=found.patch_ids)
    assert_close(output.encoding, expected["encoder"])
    assert_close(output.fields, expected["preds"])


def test_the_published_projection_comes_out(strict_numerics):
    sizes = published.projection_config()
    data = published.arrays("projection_case0")
    run = transform(sizes, tuple(range(4)), (0,))
    params = published.params(sizes, published.arrays("projection_weights"))
    found = run.apply(params, None, jnp.asarray(data["x"]), jnp.zeros(3))
    assert_close(found.encoding, data["encoder"])
    assert_close(found.fields, data["preds"])


@pytest.mark.parametrize("name", ["5.625deg", "1.40625deg"])
def test_the_published_models_have_our_parameters(name):
    sizes = climax.PUBLISHED_CONFIGS[name]
    count = len(sizes.default_vars)
    everything = tuple(range(count))
    run = transform(sizes, everything, everything)
    fields = jax.ShapeDtypeStruct((1, 1, count, *sizes.img_size), jnp.float32)
    hours = jax.ShapeDtypeStruct((1,), jnp.float32)
    made = jax.eval_shape(run.init, jax.random.PRNGKey(0), fields, hours)
    shapes = {m: {n: a.shape for n, a in v.items()} for m, v in made.items()}
    assert shapes == parameters.parameter_shapes(sizes)
    expected = published.listed("published_params.json")["models"][name]["n_params"]
    assert hk.data_structures.tree_size(made) == expected


def noisy_params(sizes):
    """Returns parameters away from their first values, from which much is zero."""
    rng = np.random.default_rng(1)
    return {
        module: {
            name: (0.3 * rng.standard_normal(shape) + (name == "scale")).astype("f4")
            for name, shape in entries.items()
        }
        for module, entries in parameters.parameter_shapes(sizes).items()
    }


def make(sizes, dtype=jnp.float32, **options):
    """Returns the jitted network, noisy parameters, fields and lead times."""
    count = len(sizes.out_variables or sizes.default_vars)
    run = transform(sizes, (2, 0), tuple(range(count)), **options)
    rng = np.random.default_rng(2)
    fields = rng.standard_normal((2, sizes.time_history, 2, *sizes.img_size))
    return run, noisy_params(sizes), jnp.asarray(fields, dtype), jnp.array([6.0, 72.0])


@pytest.mark.parametrize("sizes", [TINY, PROJECTION, NECK])
def test_parameters_are_those_of_the_table(sizes):
    run, _, fields, hours = make(sizes)
    made = jax.eval_shape(run.init, jax.random.PRNGKey(0), fields, hours)
    shapes = {m: {n: a.shape for n, a in v.items()} for m, v in made.items()}
    assert shapes == parameters.parameter_shapes(sizes)


def test_first_parameters_are_drawn_as_the_published_ones():
    sizes = TINY.replace(embed_dim=64)
    run = transform(sizes, (0,), (0,))
    fields = jnp.zeros((1, 1, 1, *sizes.img_size))
    params = jax.jit(run.init)(jax.random.PRNGKey(0), fields, jnp.array([6.0]))
    top = params["climax"]
    assert_close(top["pos_embed"], embedding.sincos_2d(64, 2, 4))
    assert_close(top["var_embed"], embedding.sincos_1d(64, np.arange(3)))
    assert not top["var_query"].any()
    for module, entries in params.items():
        spread = float(jnp.std(entries["w"])) if "w" in entries else None
        if module == "climax/var_agg/qkv":
            assert jnp.abs(entries["w"]).max() <= (6 / 256) ** 0.5
            assert spread == pytest.approx((2 / 256) ** 0.5, rel=0.05)
        elif spread is not None:
            assert spread == pytest.approx(0.02, rel=0.3), module
        if "b" in entries and module != "climax/token_embed":
            assert not entries["b"].any()


def plain_aggregation(params, pixels, chosen, heads):
    """Returns the aggregation with every token of every variable, in float64."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    tokens = np.einsum("blvp,vpd->blvd", pixels, p["embed"]["w"][chosen])
    tokens = tokens + (p["embed"]["b"] + p["var_embed"])[chosen]
    q, k, v = (
        x @ w + b
        for x, w, b in zip(
            (p["query"], tokens, tokens),
            np.split(p["qkv"]["w"], 3, axis=1),
            np.split(p["qkv"]["b"], 3),
        )
    )
    split = lambda a: a.reshape(*a.shape[:-1], heads, -1)  # noqa: E731
    scores = np.einsum("hc,blvhc->blhv", split(q)[0], split(k))
    scores = np.exp(scores / np.sqrt(q.shape[-1] // heads))
    weights = scores / scores.sum(-1, keepdims=True)
    found = np.einsum("blhv,blvhc->blhc", weights, split(v))
    found = found.reshape(*found.shape[:2], -1)
    return found @ p["proj"]["w"] + p["proj"]["b"], weights


def test_folding_the_tokens_into_the_aggregation_changes_nothing(strict_numerics):
    _, params, fields, hours = make(TINY)
    run = transform(TINY, (2, 0), (0,))
    found = run.apply(params, None, fields, hours)
    top = params["climax"]
    named = {
        "embed": params["climax/token_embed"], "qkv": params["climax/var_agg/qkv"],
        "proj": params["climax/var_agg/proj"], "query": top["var_query"],
        "var_embed": top["var_embed"],
    }  # fmt: skip
    pixels = np.asarray(vit.patches(fields[:, 0], 2), np.float64)
    tokens, weights = plain_aggregation(named, pixels, [2, 0], 2)
    assert_close(found.aggregated[:, 0], tokens)
    assert_close(found.weights[:, 0], weights)
    np.testing.assert_allclose(found.weights.sum(-1), 1, rtol=1e-6)


def test_the_order_of_input_variables_does_not_matter():
    _, params, fields, hours = make(TINY)
    found = transform(TINY, (2, 0), (1,)).apply(params, None, fields, hours)
    turned = transform(TINY, (0, 2), (1,)).apply(
        params, None, fields[:, :, ::-1], hours
    )
    assert_close(turned.fields, found.fields)


def test_each_output_is_computed_as_if_all_were():
    _, params, fields, hours = make(TINY)
    run = transform(TINY, (2, 0), (0, 1, 2))
    everything = run.apply(params, None, fields, hours)
    some = transform(TINY, (2, 0), (2, 1)).apply(params, None, fields, hours)
    assert_close(some.fields, everything.fields[:, np.array([2, 1])])


def test_lead_times_act_on_each_batch_member_alone():
    run, params, fields, hours = make(TINY)
    found = run.apply(params, None, fields, hours).fields
    other = run.apply(params, None, fields, hours.at[1].set(24.0)).fields
    assert_close(other[0], found[0])
    assert jnp.abs(other[1] - found[1]).max() > 1e-3


@SIZES
def test_it_runs_under_jit_grad_and_vmap(sizes, strict_numerics):
    run, params, fields, hours = make(sizes)
    plain = run.apply(params, None, fields, hours).fields
    single = jax.vmap(lambda x, h: run.apply(params, None, x[None], h[None]).fields[0])(
        fields, hours
    )
    assert_close(single, plain)

    def loss(p):
        return (run.apply(p, None, fields, hours).fields ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(params)
    used = np.array([2, 0])
    for module, entries in gradient.items():
        for name, value in entries.items():
            live = value[used] if module == "climax/token_embed" else value
            assert jnp.isfinite(value).all() and jnp.abs(live).max() > 0, (module, name)


@pytest.mark.slow
@SIZES
def test_computing_again_changes_no_gradient(sizes):
    run, params, fields, hours = make(sizes)
    again, _, _, _ = make(sizes, remat=True)
    first, second = (
        jax.grad(lambda p, r=r: (r.apply(p, None, fields, hours).fields ** 2).sum())(
            params
        )
        for r in (run, again)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        first,
        second,
    )


@pytest.mark.parametrize("sizes", [TINY, PROJECTION, NECK])
def test_it_computes_in_bfloat16(sizes, strict_numerics):
    run, params, fields, hours = make(sizes, jnp.bfloat16)
    narrow = {
        m: v
        if m == "climax/lead_time_embed"
        else jax.tree.map(lambda a: a.astype(jnp.bfloat16), v)
        for m, v in params.items()
    }
    found = run.apply(narrow, None, fields, hours).fields
    assert found.dtype == jnp.bfloat16
    wide = run.apply(params, None, fields.astype(jnp.float32), hours).fields
    error = jnp.abs(found.astype(jnp.float32) - wide).max()
    assert error < 0.05 * jnp.abs(wide).max()


def test_dropout_acts_in_training_only():
    run, params, fields, hours = make(TINY, training=True)
    keys = [jax.random.PRNGKey(seed) for seed in (0, 1)]
    first, second = (run.apply(params, key, fields, hours).fields for key in keys)
    assert jnp.abs(first - second).max() > 1e-2
    calm = TINY.replace(drop_rate=0.0, drop_path=0.0)
    still, _, _, _ = make(TINY)
    never, _, _, _ = make(calm, training=True)
    assert_close(
        still.apply(params, None, fields, hours).fields,
        never.apply(params, None, fields, hours).fields,
    )


def test_dropped_paths_leave_the_tokens_and_scale_the_others():
    block = hk.transform(
        lambda x: vit.Block(2, 16, drop_path=0.5, name="block")(x, is_training=True)
    )
    still = hk.transform(lambda x: vit.Block(2, 16, name="block")(x))
    still, block = (hk.Transformed(t.init, jax.jit(t.apply)) for t in (still, block))
    x = jax.random.normal(jax.random.PRNGKey(0), (64, 3, 8))
    params = jax.jit(still.init)(jax.random.PRNGKey(1), x)
    # Without a perceptron what attention adds is seen alone.
    params["block/mlp/fc2"] = jax.tree.map(jnp.zeros_like, params["block/mlp/fc2"])
    added = still.apply(params, None, x) - x
    found = block.apply(params, jax.random.PRNGKey(2), x) - x
    factors = (found / added).mean((1, 2))
    near = np.minimum(np.abs(factors), np.abs(factors - 2))
    assert near.max() < 1e-3
    assert 0.25 < float((factors > 1).mean()) < 0.75


def test_a_fresh_neck_changes_nothing():
    both = jax.random.normal(jax.random.PRNGKey(2), (2, 2, 2, 4, 8))
    hours = jnp.asarray([6.0, 72.0])
    one, two = (transform(sizes, (2, 0), (0, 1)) for sizes in (TINY, NECK))
    params = jax.jit(two.init)(jax.random.PRNGKey(0), both, hours)
    plain = {m: v for m, v in params.items() if "time_neck" not in m}
    plain["climax"] = {k: v for k, v in params["climax"].items() if "time" not in k}
    found = two.apply(params, None, both, hours).fields
    assert_close(found, one.apply(plain, None, both[:, 1:], hours).fields)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 2, 5, 8), "patch_size 2 does not divide the 5x8 grid; .* 4x8"),
        ((1, 1, 2, 6, 8), "positions for a 4x8 grid .img_size., found 6x8"),
        ((1, 3, 2, 4, 8), "reads 1 input frame.* found 3"),
    ],
)
def test_fields_that_do_not_fit_are_refused(shape, message):
    run = transform(TINY, (2, 0), (0,))
    with pytest.raises(ValueError, match=message):
        run.init(jax.random.PRNGKey(0), jnp.zeros(shape), jnp.asarray([6.0]))


def test_an_aggregation_of_one_variable_is_that_variable():
    def run(pixels):
        embed = aggregation.PatchEmbed(1, 4, 8, name="embed").weights(jnp.float32)
        query = jnp.ones((1, 8))
        return aggregation.VariableAggregation(2)(pixels, embed, query)

    transformed = hk.transform(run)
    pixels = jax.random.normal(jax.random.PRNGKey(0), (1, 3, 1, 4))
    params = transformed.init(jax.random.PRNGKey(1), pixels)
    np.testing.assert_array_equal(transformed.apply(params, None, pixels).weights, 1)
