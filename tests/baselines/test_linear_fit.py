import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tolerances
from tests.baselines import linear_cases
from weatherlib.baselines import linear_config, linear_fit, linear_layout, linear_sums

LINEAR, MULTI = linear_cases.KINDS
FORMS = [("primal", "matrix"), ("dual", "matrix"), ("dual", "factors")]


@pytest.fixture(scope="module")
def golden(goldens):
    with np.load(goldens / "ridge" / "golden.npz") as file:
        return dict(file)


@pytest.fixture
def small_blocks(monkeypatch):
    """Makes sums of few samples and few columns at a time."""
    monkeypatch.setattr(linear_fit, "_MOST_ROWS", 4)
    monkeypatch.setattr(linear_sums, "NUMBERS", 100)


def last(fields):
    """Returns fields [sample, time, variable, lat, lon] with channels last."""
    return np.moveaxis(fields, 2, -1)


def fit_golden(golden, name, alpha, form="auto", storage="auto", **options):
    kind = MULTI if name == "lr_multi" else LINEAR
    frames, targets = golden["X_train"], golden["Y_train"]
    if name == "lr":
        frames, targets = (
            (values - golden["lr_mu"]) / golden["lr_sd"] for values in (frames, targets)
        )
    how = linear_config.FitConfig(form=form, storage=storage)
    settings = {"alpha": alpha, "fit": how}
    return linear_cases.fit(
        kind, last(frames), last(targets), options=options, **settings
    )


@pytest.mark.parametrize(("form", "storage"), FORMS)
@pytest.mark.parametrize("alpha", [1, 10])
def test_the_joint_model_predicts_as_published(golden, alpha, form, storage):
    found = fit_golden(golden, "lr", alpha, form, storage)
    inputs = (golden["X_test"] - golden["lr_mu"]) / golden["lr_sd"]
    predicted = linear_cases.apply(found, last(inputs))
    expected = last(golden[f"lr_alpha{alpha}_pred_z"])
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=tolerances.RIDGE_F64)
    scale, mean = golden["lr_sd"].ravel(), golden["lr_mu"].ravel()
    apart = predicted * scale + mean - last(golden[f"lr_alpha{alpha}_pred"])
    assert np.abs(apart / scale).max() < tolerances.RIDGE_F64


@pytest.mark.parametrize(("form", "storage"), FORMS)
@pytest.mark.parametrize("alpha", [1, 10])
def test_the_model_of_each_variable_predicts_as_published(golden, alpha, form, storage):
    found = fit_golden(golden, "lr_multi", alpha, form, storage)
    predicted = linear_cases.apply(found, last(golden["X_test"]))
    apart = predicted - last(golden[f"lr_multi_alpha{alpha}_pred"])
    scale = golden["lr_sd"].ravel()
    assert np.abs(apart / scale).max() < tolerances.RIDGE_F64


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_weights_and_scales_are_the_published_ones(golden, form):
    joint = fit_golden(golden, "lr", 1, form).params["linear"]
    close = {"rtol": 0, "atol": 1e-10}
    coefficients = golden["lr_alpha1_coef"]
    np.testing.assert_allclose(joint["w"].T[::16], coefficients, **close)
    np.testing.assert_allclose(joint["b"], golden["lr_alpha1_intercept"], **close)
    multi = fit_golden(golden, "lr_multi", 10, form).params["linear"]
    np.testing.assert_allclose(multi["input_mean"], golden["x_mean"], rtol=1e-12)
    np.testing.assert_allclose(multi["input_scale"], golden["x_scale"], rtol=1e-10)
    # Theirs go variable by variable, ours step by step.
    weights = multi["w"].T.reshape(4, 2, 24, -1)
    for number in range(2):
        theirs = golden[f"lr_multi_alpha10_coef_var{number}"]
        ours = weights[:, number].reshape(96, -1)[::16]
        np.testing.assert_allclose(ours, theirs, **close)


@pytest.mark.parametrize("name", ["lr", "lr_multi"])
@pytest.mark.parametrize(("form", "storage"), FORMS)
def test_float32_weights_are_as_good_as_published_ones(golden, name, form, storage):
    found = fit_golden(golden, name, 1, form, storage, dtype=np.float32)
    assert {v.dtype for v in found.params["linear"].values()} == {np.dtype(np.float32)}
    inputs, expected = golden["X_test"], golden[f"{name}_alpha1_pred"]
    scale, mean = golden["lr_sd"].ravel(), golden["lr_mu"].ravel()
    if name == "lr":
        inputs = (inputs - golden["lr_mu"]) / golden["lr_sd"]
    predicted = linear_cases.apply(found, last(inputs))
    if name == "lr":
        predicted = predicted * scale + mean
    apart = np.abs((predicted - last(expected)) / scale)
    assert apart.max() < tolerances.RIDGE_F32


@pytest.mark.parametrize("kind", linear_cases.KINDS)
@pytest.mark.parametrize(("form", "storage"), FORMS)
@pytest.mark.parametrize("samples", [20, 90])
def test_both_forms_solve_the_same_problem(kind, form, storage, samples, small_blocks):
    """36 features: fewer than samples, and more."""
    frames, targets = linear_cases.draw(samples)
    how = linear_config.FitConfig(form=form, storage=storage)
    found = linear_cases.fit(kind, frames, targets, alpha=3.0, fit=how)
    x = linear_layout.outputs(frames)
    y = linear_layout.outputs(targets)
    scales = (1.0, 1.0)
    if kind is MULTI:
        scales = (x.std(0), y.std(0))
        weights, intercept = ridge_scaled(x, y, 3.0)
    else:
        weights, intercept = linear_cases.ridge(x, y, 3.0)
    expected = x / scales[0] @ weights + intercept
    predicted = linear_layout.outputs(linear_cases.apply(found, frames)) / scales[1]
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-10)
    assert found.form == form


def ridge_scaled(x, y, alpha):
    return linear_cases.ridge(x / x.std(0), y / y.std(0), alpha)


@pytest.mark.parametrize("kind", linear_cases.KINDS)
@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_batches_of_any_size_give_the_same(kind, form, size, small_blocks):
    frames, targets = linear_cases.draw(60)
    how = linear_config.FitConfig(form=form)
    whole = linear_cases.fit(kind, frames, targets, size=60, fit=how)
    parts = linear_cases.fit(kind, frames, targets, size=size, fit=how)
    for name, values in whole.params["linear"].items():
        np.testing.assert_array_equal(values, parts.params["linear"][name])


@given(cuts=st.lists(st.integers(1, 39), max_size=8), seed=st.integers(0, 9))
def test_sums_of_any_blocks_are_the_same(cuts, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((40, 3)) + 1e6, rng.standard_normal((40, 2)) - 1e5
    sums = linear_sums.Products(3, 2)
    edges = [0, *sorted(set(cuts)), 40]
    for first, end in itertools.pairwise(edges):
        sums.add(x[first:end], y[first:end])
    near, far = x - x.mean(0), y - y.mean(0)
    gram = np.tril(sums.gram) + np.tril(sums.gram, -1).T
    np.testing.assert_allclose(gram, near.T @ near, rtol=0, atol=1e-8)
    np.testing.assert_allclose(sums.cross, near.T @ far, rtol=0, atol=1e-8)
    inputs, targets = sums.columns(scaled=True)
    np.testing.assert_allclose(inputs.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(inputs.scale, x.std(0), rtol=1e-9)
    np.testing.assert_allclose(targets.scale, y.std(0), rtol=1e-9)


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_a_large_mean_costs_no_digits(form, small_blocks):
    frames, targets = linear_cases.draw(80)
    how = linear_config.FitConfig(form=form)
    near = linear_cases.fit(LINEAR, frames, targets, fit=how)
    # Powers of two, so that nothing is rounded on the way.
    far = linear_cases.fit(LINEAR, frames * 2.0**20, targets * 2.0**20, fit=how,
                           alpha=2.0**40)  # fmt: skip
    np.testing.assert_array_equal(near.params["linear"]["w"], far.params["linear"]["w"])
    rounded = np.round(frames * 2**20) / 2**20
    shifted = linear_cases.fit(LINEAR, rounded + 2.0**20, targets, fit=how)
    rounded = linear_cases.fit(LINEAR, rounded, targets, fit=how)
    np.testing.assert_allclose(
        shifted.params["linear"]["w"], rounded.params["linear"]["w"], atol=1e-9
    )


def test_forcings_and_static_fields_take_part():
    frames, targets = linear_cases.draw(80)
    rng = np.random.default_rng(1)
    known = rng.standard_normal((80, 2, 2, 3, 1))
    targets[..., 0] += 9 * known[..., 0]
    static = np.broadcast_to(rng.standard_normal((2, 3, 2)), (80, 2, 3, 2))
    others = {"known": known, "static": static}
    blind = linear_cases.fit(LINEAR, frames, targets)
    seeing = linear_cases.fit(LINEAR, frames, targets, others=others)
    assert seeing.params["linear"]["w"].shape == (36 + 12 + 12, 24)
    errors = [
        np.square(linear_cases.apply(found, frames, **given) - targets)[..., 0].mean()
        for found, given in ((blind, {}), (seeing, others))
    ]
    assert errors[1] < 0.05 * errors[0]
    # Static fields never change from sample to sample, so they get no weight.
    np.testing.assert_array_equal(seeing.params["linear"]["w"][48:], 0)


@pytest.mark.parametrize("kind", linear_cases.KINDS)
@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_what_never_changes_is_predicted_as_it_is(kind, form, alpha, small_blocks):
    frames, targets = linear_cases.draw(60)
    frames[:, :, 1, 2, 0] = 0.1
    targets[:, :, 0, 1, 1] = 273.15
    how = linear_config.FitConfig(form=form)
    found = linear_cases.fit(kind, frames, targets, alpha=alpha, fit=how)
    values = found.params["linear"]
    weights = values["w"].reshape(3, 2, 2, 3, 2, 2, 2, 3)
    np.testing.assert_array_equal(weights[:, 0, 1, 2], 0)
    np.testing.assert_array_equal(weights[..., 1, 0, 1], 0)
    # Also where the input does change later.
    frames[:, :, 1, 2, 0] = 7.0
    predicted = linear_cases.apply(found, frames)
    np.testing.assert_allclose(predicted[:, :, 0, 1, 1], 273.15, rtol=1e-12)
    assert np.isfinite(predicted).all()
    if kind is MULTI:
        scale = values["input_scale"].reshape(3, 2, 2, 3)
        np.testing.assert_array_equal(scale[:, 0, 1, 2], 1)


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("samples", [20, 90])
@pytest.mark.parametrize("alpha", [0.0, 1e-30, 1e-12])
def test_without_penalty_it_is_least_squares(form, samples, alpha):
    """With fewer samples than features, those of the smallest weights."""
    frames, targets = linear_cases.draw(samples)
    how = linear_config.FitConfig(form=form)
    found = linear_cases.fit(LINEAR, frames, targets, alpha=alpha, fit=how)
    x = linear_layout.outputs(frames)
    y = linear_layout.outputs(targets)
    expected, *_ = np.linalg.lstsq(x - x.mean(0), y - y.mean(0), rcond=None)
    np.testing.assert_allclose(found.params["linear"]["w"], expected, atol=1e-9)


@pytest.mark.parametrize("form", ["primal", "dual"])
def test_each_variable_can_have_its_own_penalty(form):
    frames, targets = linear_cases.draw(50, channels=4)
    how = linear_config.FitConfig(form=form)
    own = {"v1": 100.0, "v2": 0.5, "v3": 3.0}
    mixed = linear_cases.fit(MULTI, frames, targets, alphas=own, fit=how)
    assert mixed.alphas == {"v0": 10.0, **own}
    for number, alpha in enumerate([10.0, 100.0, 0.5, 3.0]):
        single = linear_cases.fit(MULTI, frames, targets, alpha=alpha, fit=how)
        parts = [
            found.params["linear"]["w"].reshape(72, 2, 4, 6)[:, :, number]
            for found in (mixed, single)
        ]
        np.testing.assert_allclose(*parts, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", linear_cases.KINDS)
@pytest.mark.parametrize(("form", "storage"), FORMS)
def test_the_best_candidate_is_chosen_and_fitted_to_all(
    kind, form, storage, small_blocks
):
    """Compared with fits of each candidate to the first samples alone."""
    frames, targets = linear_cases.draw(70)
    targets[..., 1] = np.random.default_rng(3).standard_normal(targets.shape[:-1])
    candidates = (0.1, 3.0, 100.0, 3000.0, 1e5)
    how = {"form": form, "storage": storage, "held_out": 0.3}
    trained, judged = 70 - 21 - 4, slice(70 - 21, 70)
    errors = {}
    for alpha in candidates:
        part = linear_cases.fit(kind, frames[:trained], targets[:trained], alpha=alpha)
        apart = linear_cases.apply(part, frames[judged]) - targets[judged]
        if kind is MULTI:
            apart = apart / targets[:trained].std(0)
        errors[alpha] = np.square(apart).mean(axis=(0, 1, 2, 3))
    if kind is LINEAR:
        errors = {alpha: np.full(2, e.mean()) for alpha, e in errors.items()}
    best = [min(candidates, key=lambda a, i=i: errors[a][i]) for i in range(2)]
    chooses = linear_config.FitConfig(candidates=candidates, **how)
    found = linear_cases.fit(kind, frames, targets, fit=chooses)
    assert list(found.alphas.values()) == best
    for number, named in enumerate(found.errors.values()):
        for alpha, error in named.items():
            np.testing.assert_allclose(error, errors[alpha][number], rtol=1e-8)
    given = {"alpha": best[0]}
    if kind is MULTI:
        assert best[0] != best[1]
        given = {"alphas": found.alphas}
        assert found.config.alphas == found.alphas
    else:
        assert found.config.alpha == best[0]
    whole = linear_cases.fit(kind, frames, targets, **given)
    np.testing.assert_allclose(
        linear_cases.apply(found, frames), linear_cases.apply(whole, frames), atol=1e-9
    )


def test_a_best_candidate_at_the_end_of_the_list_is_told():
    frames, targets = linear_cases.draw(70)
    for candidates, expected in (((1e7, 1e8), 1e7), ((1e-3, 10.0, 1e8), None)):
        how = linear_config.FitConfig(candidates=candidates)
        found = linear_cases.fit(LINEAR, frames, targets, fit=how)
        wanted = {linear_fit.JOINT: expected} if expected else {}
        assert found.at_end == wanted


def test_progress_is_told(small_blocks):
    frames, targets = linear_cases.draw(10)
    told = []
    linear_cases.fit(LINEAR, frames, targets, options={"progress": told.append})
    assert told == [4, 8, 10]


def test_data_are_read_once():
    frames, targets = linear_cases.draw(40)
    read = []

    def counted():
        for number, batch in enumerate(linear_cases.batches(frames, targets, 10)):
            read.append(number)
            yield batch

    how = linear_config.FitConfig(candidates=(1.0, 10.0))
    config = LINEAR(input_length=3, output_length=2, fit=how)
    names = linear_layout.Channels(frames=("a", "b"))
    linear_fit.fit(counted(), config, names, samples=40)
    assert read == [0, 1, 2, 3]


def test_too_few_samples_are_refused():
    frames, targets = linear_cases.draw(24)
    with pytest.raises(ValueError, match=r"to 1 sample\(s\); it takes 2 at least"):
        linear_cases.fit(LINEAR, frames[:1], targets[:1])
    how = linear_config.FitConfig(candidates=(1.0,), held_out=0.8)
    with pytest.raises(ValueError, match=r"19 would judge, 4 .*, and 1 are left"):
        linear_cases.fit(LINEAR, frames, targets, fit=how)
    options = {"held_out": 0}
    with pytest.raises(ValueError, match="0 would judge"):
        linear_cases.fit(LINEAR, frames, targets, fit=how, options=options)
    dated = linear_config.FitConfig(candidates=(1.0,), held_out_period=("a", "b"))
    with pytest.raises(ValueError, match="held_out_period: samples have no dates here"):
        linear_cases.fit(LINEAR, frames, targets, fit=dated)
    options = {"held_out": 19, "gap": 0}
    linear_cases.fit(LINEAR, frames, targets, fit=how, options=options)


@pytest.mark.parametrize(("announced", "there"), [(12, "only 10"), (8, "more")])
def test_another_number_of_samples_than_announced_is_refused(announced, there):
    frames, targets = linear_cases.draw(10)
    with pytest.raises(ValueError, match=f"{announced} samples were .* {there}"):
        linear_cases.fit(LINEAR, frames, targets, options={"samples": announced})
    with pytest.raises(ValueError, match="there are none"):
        linear_fit.fit([], LINEAR(), linear_layout.Channels(frames=()), samples=4)
