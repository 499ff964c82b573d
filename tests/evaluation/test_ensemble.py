import gzip
import json

import numpy as np
import pandas as pd
import pytest
import scores.probability
import xarray
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation import samples
from weatherlib.evaluation import ensemble


def _cases(members=7, count=200, seed=0):
    generator = np.random.default_rng(seed)
    return generator.gamma(1.0, size=(members, count)), generator.gamma(1, size=count)


@pytest.mark.parametrize("fair", [False, True])
def test_crps_is_that_of_the_scores_package(fair):
    members, truth = _cases()
    expected = scores.probability.crps_for_ensemble(
        xarray.DataArray(members, dims=("member", "case")),
        xarray.DataArray(truth, dims="case"),
        "member",
        method="fair" if fair else "ecdf",
        preserve_dims="case",
    )
    np.testing.assert_allclose(ensemble.crps(members, truth, fair=fair), expected)


@given(count=st.integers(1, 30), offset=st.floats(-1e6, 1e6), seed=st.integers(0, 99))
def test_sorting_gives_the_mean_distance_of_all_pairs(count, offset, seed):
    members = np.random.default_rng(seed).standard_normal((count, 5)) + offset
    pairs = np.abs(members[:, None] - members[None]).mean((0, 1))
    np.testing.assert_allclose(
        ensemble.mean_distance(members), pairs, rtol=1e-6, atol=1e-9
    )


@given(seed=st.integers(0, 99))
def test_crps_of_one_member_is_its_absolute_error(seed):
    members, truth = _cases(1, seed=seed)
    np.testing.assert_allclose(
        ensemble.crps(members, truth), np.abs(members[0] - truth)
    )
    with pytest.raises(ValueError, match="at least 2 members"):
        ensemble.crps(members, truth, fair=True)


def test_the_fair_score_does_not_depend_on_the_number_of_members():
    generator = np.random.default_rng(0)
    truth = generator.standard_normal(60000)
    found = {}
    for count in (2, 5, 20):
        members = generator.standard_normal((count, 60000))
        found[count] = [
            ensemble.crps(members, truth, fair=fair).mean() for fair in (True, False)
        ]
    perfect = 1 / np.sqrt(np.pi)
    for fair, biased in found.values():
        assert abs(fair - perfect) < 0.01 and biased > fair
    assert found[2][1] > found[20][1] + 0.1


def test_scores_of_real_ensembles_are_the_known_ones():
    expected = json.loads(samples.real("baselines.json").read_text())
    for key, file, prefix, last in (
        ("gefs_reforecast_11m_precip_innsbruck (mm)",
         "obs/gefs_reforecast_11m_precip_innsbruck_2000-2008.csv.gz", "rainfc", "rain"),
        ("uwme_8m_t2m_pnw (K)", "obs/uwme_8m_t2m_pnw_200401.csv.gz", "", "observation"),
    ):  # fmt: skip
        with gzip.open(samples.real(file)) as stream:
            table = pd.read_csv(stream)
        named = [c for c in table.columns if c.startswith(prefix)] if prefix else None
        columns = named or list(table.columns[:8])
        table = table.dropna(subset=[*columns, last])
        members, truth = table[columns].to_numpy().T, table[last].to_numpy()
        found = {
            "crps": ensemble.crps(members, truth).mean(),
            "crps_fair": ensemble.crps(members, truth, fair=True).mean(),
            "rmse_mean": np.sqrt(((members.mean(0) - truth) ** 2).mean()),
            "bias_mean": (members.mean(0) - truth).mean(),
            "mean_variance_ddof1": ensemble.variance(members).mean(),
            "n": len(truth),
        }
        for name, value in found.items():
            assert round(float(value), 6) == expected[key][name], (key, name)


def test_ranks_of_a_reliable_ensemble_are_flat_and_ties_are_drawn():
    generator = np.random.default_rng(1)
    members = generator.standard_normal((4, 50000))
    truth = generator.standard_normal(50000)
    counts = np.bincount(ensemble.ranks(members, truth, generator), minlength=5)
    np.testing.assert_allclose(counts / 10000, 1, atol=0.05)
    dry = np.zeros((4, 50000))
    counts = np.bincount(ensemble.ranks(dry, dry[0], generator), minlength=5)
    np.testing.assert_allclose(counts / 10000, 1, atol=0.05)
    again = [ensemble.ranks(dry, dry[0], np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    members[2, 0], truth[1] = np.nan, np.nan
    assert (ensemble.ranks(members, truth, generator)[:2] == -1).all()


def test_ranks_count_the_members_below():
    members = np.array([[1.0], [2.0], [3.0]])
    for value, rank in ((0, 0), (1.5, 1), (2.5, 2), (9, 3)):
        generator = np.random.default_rng(0)
        assert ensemble.ranks(members, np.array([value * 1.0]), generator) == rank


def test_energy_score_of_one_point_is_the_crps():
    members, truth = _cases(6, 40)
    for fair in (False, True):
        found = [
            ensemble.energy_score(m[:, None], t[None], np.ones(1), fair=fair)
            for m, t in zip(members.T, truth)
        ]
        np.testing.assert_allclose(found, ensemble.crps(members, truth, fair=fair))


def test_energy_score_is_that_of_its_definition_and_skips_missing_points():
    members, truth = _cases(5, 30)
    weights = np.linspace(0, 2, 30)
    share = weights / weights.sum()

    def norm(x):
        return np.sqrt((share * x**2).sum(-1))

    expected = norm(members - truth).mean() - 0.5 * norm(
        members[:, None] - members[None]
    ).mean((0, 1))
    np.testing.assert_allclose(ensemble.energy_score(members, truth, weights), expected)
    wider = np.concatenate([members, np.full((5, 1), np.nan)], 1)
    found = ensemble.energy_score(wider, np.append(truth, 1.0), np.append(weights, 9))
    np.testing.assert_allclose(found, expected)
    assert np.isnan(ensemble.energy_score(members, truth * np.nan, weights))
