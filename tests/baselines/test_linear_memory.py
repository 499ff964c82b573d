import tracemalloc

import pytest

from tests.baselines import linear_cases
from weatherlib.baselines import linear_config, linear_layout, linear_memory

FEW = linear_memory.Load(
    shape=linear_layout.Shape(features=24576, outputs=8192), samples=1000
)
MANY = linear_memory.Load(
    shape=linear_layout.Shape(features=3000, outputs=1000), samples=50_000
)


def choose(load, **settings):
    plan = linear_memory.choose(load, linear_config.FitConfig(**settings))
    return plan.form, plan.storage


def test_fewer_samples_than_features_are_kept_and_more_are_summed():
    assert choose(FEW, memory=1e3) == ("dual", "factors")
    assert choose(MANY, memory=1e3) == ("primal", "matrix")


def test_the_choice_can_be_overridden():
    assert choose(FEW, memory=1e3, form="primal") == ("primal", "matrix")
    assert choose(FEW, memory=1e3, storage="matrix") == ("dual", "matrix")
    assert choose(MANY, memory=1e3, form="dual") == ("dual", "matrix")
    assert choose(MANY, memory=1e3, storage="factors") == ("dual", "factors")
    with pytest.raises(ValueError, match="factors needs one row for each sample"):
        choose(MANY, form="primal", storage="factors")


def test_the_other_form_is_taken_where_only_that_fits():
    load = linear_memory.Load(
        shape=linear_layout.Shape(features=2000, outputs=20_000), samples=1990
    )
    sums, samples = (load.bytes(form, "matrix") for form in ("primal", "dual"))
    assert sums < samples
    assert choose(load, memory=1e3)[0] == "dual"
    assert choose(load, memory=(sums + samples) / 2**31)[0] == "primal"


def test_what_does_not_fit_says_what_would():
    message = r"1000 samples .* 24576 features .* and 0.5 GiB .* coarser grid"
    with pytest.raises(ValueError, match=message):
        choose(FEW, memory=0.5)
    with pytest.raises(ValueError, match=r"GiB in the primal form and .* dual form"):
        choose(MANY, memory=0.2)
    with pytest.raises(ValueError, match=r"needs \S+ GiB in the dual form, and"):
        choose(MANY, memory=0.2, form="dual")


def test_free_memory_is_asked_for():
    assert 2**20 < linear_memory.available() < 2**50


def test_a_container_limits_what_is_free(monkeypatch):
    monkeypatch.setattr(linear_memory, "_free", lambda: 100.0)
    monkeypatch.setattr(linear_memory, "_limit_of_group", lambda: 10.0)
    assert linear_memory.available() == pytest.approx(8.0)
    for name in ("_free", "_limit_of_group"):
        monkeypatch.setattr(linear_memory, name, lambda: None)
    assert linear_memory.available() == float("inf")
    assert choose(FEW)[0] == "dual"


@pytest.mark.parametrize("form", ["primal", "dual"])
@pytest.mark.parametrize("candidates", [(), (1.0, 10.0, 100.0)])
def test_a_fit_takes_no_more_memory_than_was_estimated(form, candidates, monkeypatch):
    monkeypatch.setattr("weatherlib.baselines.linear_sums.NUMBERS", 2**14)
    samples = {"primal": 1200, "dual": 400}[form]
    frames, targets = linear_cases.draw(samples, rows=8, columns=16)
    frames, targets = frames.astype("float32"), targets.astype("float32")
    how = linear_config.FitConfig(form=form, candidates=candidates)
    options = {"dtype": "float32"}
    tracemalloc.start()
    try:
        linear_cases.fit(
            linear_config.MultiLinearConfig, frames, targets, fit=how, options=options
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    load = linear_memory.Load(
        shape=linear_layout.Shape(features=768, outputs=512),
        samples=samples,
        choosing=bool(candidates),
    )
    estimate = load.bytes(form, "matrix")
    assert 0.5 * estimate < peak < 1.1 * estimate
