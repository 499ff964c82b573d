"""Tests of maps between published names and ours, with a family made up for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherlib.weights import errors, name_map
from weatherlib.weights.name_map import Rule

SHAPES = {
    "net/attention": {"q": (3, 4), "k": (3, 4), "b": (4,)},
    "net/convolution": {"w": (3, 3, 2, 5)},
    "net/embed": {"w": (2, 6)},
}
RULES = (
    Rule(
        source="attn.qk.weight",
        source_shape=(8, 3),
        module="net/attention",
        name="q",
        transform=name_map.TRANSPOSE,
        part=slice(0, 4),
    ),
    Rule(
        source="attn.qk.weight",
        source_shape=(8, 3),
        module="net/attention",
        name="k",
        transform=name_map.TRANSPOSE,
        part=slice(4, 8),
    ),
    Rule(source="attn.bias", source_shape=(4,), module="net/attention", name="b"),
    Rule(
        source="conv.weight",
        source_shape=(5, 2, 3, 3),
        module="net/convolution",
        name="w",
        transform=name_map.convolution(2),
    ),
    *[
        Rule(
            source=f"embed.{i}",
            source_shape=(1, 2, 3),
            module="net/embed",
            name="w",
            transform=name_map.reshape(6),
            index=i,
        )
        for i in range(2)
    ],
)


def _map():
    return name_map.NameMap(RULES, SHAPES)


def _sources(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = _map().source_shapes
    return {
        name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()
    }


@given(st.integers(0, 99), st.sampled_from([np.float32, np.float16, np.float64]))
def test_arrays_go_there_and_back_bit_by_bit(seed, dtype):
    sources = _sources(seed, dtype)
    params = _map().to_params(sources)
    found = {m: {n: a.shape for n, a in names.items()} for m, names in params.items()}
    assert found == SHAPES
    back = _map().to_sources(params)
    assert set(back) == set(sources)
    for name, array in sources.items():
        assert back[name].dtype == dtype
        assert back[name].tobytes() == array.tobytes()


def test_each_array_goes_to_its_place():
    sources = _sources()
    params = _map().to_params(sources)
    np.testing.assert_array_equal(
        params["net/attention"]["k"], sources["attn.qk.weight"][4:].T
    )
    np.testing.assert_array_equal(
        params["net/convolution"]["w"][1, 2, 0], sources["conv.weight"][:, 0, 1, 2]
    )
    np.testing.assert_array_equal(
        params["net/embed"]["w"][1], sources["embed.1"].ravel()
    )


def test_all_differences_are_named_at_once_with_their_shapes():
    sources = _sources()
    del sources["attn.bias"]
    sources["mask_token"] = np.zeros((1, 3))
    sources["conv.weight"] = np.zeros((5, 2, 1, 1))
    with pytest.raises(errors.MismatchError) as refused:
        _map().to_params(sources)
    assert str(refused.value) == (
        "the file: 1 arrays are missing, 1 extra and 1 misshapen, of 5 that the model "
        "has"
    )
    assert refused.value.missing == {"attn.bias": (4,)}
    assert refused.value.extra == {"mask_token": (1, 3)}
    assert refused.value.misshapen == {"conv.weight": ((5, 2, 1, 1), (5, 2, 3, 3))}
    assert refused.value.__notes__ == [
        "missing    attn.bias [4]",
        "extra      mask_token [1, 3]",
        "misshapen  conv.weight [5, 2, 1, 1], wanted [5, 2, 3, 3]",
    ]


def test_parameters_are_checked_as_strictly_on_the_way_back():
    params = _map().to_params(_sources())
    del params["net/attention"]["b"]
    params["net/embed"]["w"] = np.zeros((2, 5))
    params["net/other"] = {"w": np.zeros(1)}
    with pytest.raises(errors.MismatchError) as refused:
        _map().to_sources(params)
    assert refused.value.missing == {"net/attention/b": (4,)}
    assert refused.value.extra == {"net/other/w": (1,)}
    assert refused.value.misshapen == {"net/embed/w": ((2, 5), (2, 6))}


def test_what_is_not_given_is_named_by_its_place():
    sources = _sources()
    del sources["embed.0"]
    params, unfilled = _map().fill(sources)
    assert unfilled == {("net/embed", "w"): [0]}
    assert not params["net/embed"]["w"][0].any()
    assert params["net/embed"]["w"][1].all()


def test_arrays_of_unequal_types_in_one_parameter_keep_all_their_digits():
    sources = _sources()
    sources["embed.0"] = sources["embed.0"].astype(np.float64) + 1e-12
    params = _map().to_params(sources)
    np.testing.assert_array_equal(
        params["net/embed"]["w"][0], sources["embed.0"].ravel()
    )


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (RULES[1:], "named not exactly once: attn.qk.weight, net/attention/q"),
        ((*RULES, RULES[2]), "named not exactly once: attn.bias, net/attention/b"),
        (RULES[:-1], "named not exactly once: net/embed/w"),
        (
            (*RULES, Rule(source="x", source_shape=(1,), module="a", name="b")),
            "x: has two shapes or no place",
        ),
        (
            (
                Rule(
                    source="attn.bias",
                    source_shape=(3,),
                    module="net/attention",
                    name="b",
                ),
            ),
            "does not fit net/attention/b",
        ),
    ],
)
def test_a_family_that_forgets_or_repeats_something_is_noticed(rules, reason):
    with pytest.raises(ValueError, match=reason):
        name_map.NameMap(rules, SHAPES)
