"""Projected gradients: hand-checked minima, no worse than a general solver, in any order of domains."""

import numpy as np
import pytest
from scipy.optimize import minimize

from regmix_hf.choice.descent import descend
from regmix_hf.choice.objective import Objective
from regmix_hf.choice.optimise import optimise
from regmix_hf.mixtures import Constraints
from regmix_hf.mixtures.constraints import EpochCap
from regmix_hf.recipe import Group
from regmix_hf.regression.power_law import PowerLaw
from tests.bounds import allowed, promised_fall


def law(domains, targets, seed=0):
    """A power law with made-up parameters, each target helped most by one domain."""
    rng = np.random.default_rng(seed)
    model = PowerLaw()
    model.n_features_in_, model.num_targets_, model.single_target_ = domains, targets, False
    model.floor_, model.scale_ = rng.uniform(1, 2, targets), rng.uniform(2, 4, targets)
    model.harm_ = 0.2 * rng.normal(size=(targets, domains))
    model.exponent_, model.offset_ = rng.uniform(0.2, 0.6, targets), rng.uniform(0.02, 0.4, targets)
    model.affinity_ = np.exp(1.2 * rng.normal(size=(targets, domains)))
    model.affinity_[np.arange(targets), np.arange(targets)] *= 30
    model.saturation_ = rng.uniform(0.4, 0.7, (targets, domains))
    return model


def bounds_of(domains, prior):
    names = tuple(f"d{i}" for i in range(domains))
    return Constraints(
        names,
        minimum={"d1": 0.01},
        maximum=dict(zip(names, np.minimum(1.0, 8 * prior).tolist(), strict=True)),
        fixed={"d0": 0.02},
        groups={
            "few": Group(domains=names[:2], max=max(0.031, 0.9 * float(prior[:2].sum()))),
            "many": Group(
                domains=names[2 : 2 + domains // 3], min=1.5 * float(prior[2 : 2 + domains // 3].sum())
            ),
        },
        epochs=EpochCap(4.0, dict(zip(names, 1e6 * prior, strict=True)), 1e6),
    )


def solved_by_slsqp(objective, bounds, starts):
    """The best that sequential quadratic programming finds from the same starts."""
    matrix, least = bounds.group_limits
    points = [
        minimize(
            lambda w: float(objective(np.maximum(w, 0)[None])[0]),
            start,
            jac=lambda w: objective.slope(np.maximum(w, 0)[None])[0],
            bounds=list(zip(bounds.lower, bounds.upper, strict=True)),
            constraints=[
                {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
                {"type": "ineq", "fun": lambda w: matrix @ w - least, "jac": lambda _: matrix},
            ],
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        ).x
        for start in starts
    ]
    return objective(bounds.project(np.stack(points))).min()


@pytest.mark.parametrize("kl_strength", [0.0, 0.02])
@pytest.mark.parametrize("domains", [4, 17, 60])
def test_the_optimum_meets_its_conditions_and_is_no_worse_than_that_of_quadratic_programming(
    domains, kl_strength
):
    rng = np.random.default_rng(domains)
    prior = rng.dirichlet(np.full(domains, 20.0))
    objective = Objective(law(domains, 4), np.full(4, 0.25), prior, kl_strength)
    bounds = bounds_of(domains, prior)
    starts = bounds.project(np.stack([prior, *rng.dirichlet(np.full(domains, 0.3), 2)]))
    found = optimise(objective, bounds, starts)
    assert allowed(bounds, found[None]).all()
    assert found[0] == pytest.approx(0.02)
    assert promised_fall(bounds, found, objective.slope(found[None])[0]) <= 1e-7
    assert objective(found[None])[0] <= solved_by_slsqp(objective, bounds, starts) + 1e-8


@pytest.mark.parametrize("shares", [np.full(4, 0.25), None])
def test_the_order_of_domains_does_not_matter(shares):
    model, prior = law(12, 4), np.random.default_rng(0).dirichlet(np.full(12, 2.0))
    turned = np.random.default_rng(1).permutation(12)
    other = law(12, 4)
    for name in ("harm_", "affinity_", "saturation_"):
        setattr(other, name, getattr(model, name)[:, turned])
    names = tuple(f"d{i}" for i in range(12))
    starts = np.stack([prior, np.full(12, 1 / 12)])
    here = optimise(Objective(model, shares, prior, 0.01), Constraints(names), starts)
    there = optimise(Objective(other, shares, prior[turned], 0.01), Constraints(names), starts[:, turned])
    np.testing.assert_allclose(there, here[turned], atol=2e-4)


def test_a_sum_of_squares_ends_at_the_projection_of_its_centre_from_every_corner():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=9)
    bounds = Constraints(tuple("abcdefghi"), maximum={"a": 0.3})
    ends = descend(
        lambda w: ((w - centre) ** 2).sum(axis=1),
        lambda w: 2 * (w - centre),
        bounds,
        bounds.project(np.eye(9)),
        precision=1e-14,
        max_steps=1000,
    )
    np.testing.assert_allclose(ends, np.tile(bounds.project(centre[None]), (9, 1)), atol=1e-6)


def test_a_linear_function_ends_at_the_best_corner():
    cost = np.array([0.3, -1.0, 0.2, -0.9])
    bounds = Constraints(tuple("abcd"), maximum={"b": 0.6})
    starts = bounds.project(np.random.default_rng(0).dirichlet(np.ones(4), 3))
    ends = descend(
        lambda w: w @ cost,
        lambda w: np.tile(cost, (len(w), 1)),
        bounds,
        starts,
        precision=1e-12,
        max_steps=200,
    )
    np.testing.assert_allclose(ends, np.tile([0.0, 0.6, 0.0, 0.4], (3, 1)), atol=1e-9)


def test_a_single_allowed_mixture_is_the_answer():
    bounds = Constraints(("a", "b"), fixed={"a": 0.3})
    objective = Objective(law(2, 2), np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(optimise(objective, bounds, np.array([[0.9, 0.1]])), [0.3, 0.7], atol=1e-12)


def test_a_worst_loss_is_no_worse_than_any_of_many_mixtures_near_it():
    rng = np.random.default_rng(3)
    prior = rng.dirichlet(np.full(20, 2.0))
    names = tuple(f"d{i}" for i in range(20))
    groups = {"few": Group(domains=names[:6], max=0.2), "many": Group(domains=names[10:15], max=0.5)}
    objective, bounds = Objective(law(20, 5), None, prior, 0.01), Constraints(names, groups=groups)
    found = optimise(objective, bounds, np.stack([prior, np.full(20, 0.05)]))
    assert (found[:6].sum(), found[10:15].sum()) == pytest.approx((0.2, 0.5))
    steps = rng.normal(size=(2000, 20)) * rng.choice([1e-1, 1e-2, 1e-3], (2000, 1))
    assert objective(found[None])[0] <= objective(bounds.project(found + steps)).min() + 1e-7
