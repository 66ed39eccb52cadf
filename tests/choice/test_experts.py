"""A mixture chosen with experts is the optimum: under bounds, caps and groups its conditions hold."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf import choose_mixture
from regmix_hf.choice.objective import Objective
from regmix_hf.choice.optimise import optimise
from regmix_hf.mixtures import Constraints, EpochCap
from regmix_hf.recipe import Choice, Group, Sampling
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.expert_tokens import ExpertTokens
from regmix_hf.regression.experts import Experts
from regmix_hf.runs.experts import Experts as Kept
from regmix_hf.runs.experts import TargetText
from tests.bounds import allowed, promised_fall

NAMES = ("a", "b", "c", "d", "e")
PRIOR = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
TOGETHER = {"few": Group(domains=("c", "d"), max=0.2), "many": Group(domains=("a", "b"), min=0.65)}


@pytest.fixture(scope="module")
def tokens():
    """Five experts of two targets; each knows some of the tokens."""
    rng = np.random.default_rng(0)
    logs = tuple((-rng.exponential(3.0, (5, count))).astype(np.float16) for count in (90, 120))
    return ExpertTokens(np.eye(5), logs, (1.0, 1.0))


@pytest.fixture(scope="module")
def model(tokens):
    return Experts().fit(np.empty((0, 5)), np.empty((0, 2)), experts=tokens)


@pytest.mark.parametrize(
    ("bounds", "kl_strength", "binding"),
    [
        (Constraints(NAMES), 0.0, {}),
        (Constraints(NAMES, {"a": 0.3, "e": 0.05}, {"b": 0.1, "c": 0.25}), 0.0, {}),
        (Constraints(NAMES, epochs=EpochCap(2.0, dict(zip(NAMES, PRIOR, strict=True)), 1.6)), 0.0, {}),
        (Constraints(NAMES, maximum={"c": 0.2}, fixed={"d": 0.15}), 0.3, {}),
        (Constraints(NAMES, groups=TOGETHER), 0.0, {"few": "max", "many": "min"}),
        (
            Constraints(
                NAMES,
                {"e": 0.05},
                {"a": 0.3},
                groups=TOGETHER,
                epochs=EpochCap(2.0, dict(zip(NAMES, PRIOR, strict=True)), 1.2),
            ),
            0.05,
            {"few": "max", "many": "min"},
        ),
    ],
    ids=["free", "bounds", "caps", "fixed and pulled", "groups", "bounds, caps and groups, pulled"],
)
def test_the_optimum_meets_the_conditions_of_karush_kuhn_and_tucker(model, bounds, kl_strength, binding):
    objective = Objective(model, np.array([0.3, 0.7]), PRIOR, kl_strength)
    found = optimise(objective, bounds, np.stack([PRIOR, np.full(5, 0.2)]))
    assert allowed(bounds, found[None]).all()
    assert promised_fall(bounds, found, objective.slope(found[None])[0]) <= 1e-9
    for name, binds in binding.items():
        places = [NAMES.index(domain) for domain in bounds.groups[name].domains]
        assert found[places].sum() == pytest.approx(getattr(bounds.groups[name], binds), abs=1e-9)


def test_without_bounds_it_is_where_expectation_maximisation_ends(model, tokens):
    given, weights = np.exp(tokens.logs[0].astype(np.float64)), np.full(5, 0.2)
    for _ in range(2000):
        weights = (weights[:, None] * given / (weights @ given)).mean(axis=1)
    objective = Objective(model, np.array([1.0, 0.0]), PRIOR)
    found = optimise(objective, Constraints(NAMES), np.full((1, 5), 0.2))
    np.testing.assert_allclose(found, weights, atol=1e-4)


@pytest.fixture(scope="module")
def kept(tokens):
    texts = {
        name: TargetText(sha256=name, num_tokens=count, bits_per_nat=1.0)
        for name, count in (("a", 90), ("x", 120))
    }
    return Kept(
        pd.DataFrame(tokens.weights, list("vwxyz"), NAMES), dict(zip(texts, tokens.logs, strict=True)), texts
    )


def test_without_runs_nobody_knows_what_leaving_the_prior_costs_and_it_is_said(kept):
    nothing = pd.DataFrame(columns=list(NAMES), dtype=float)
    regressor = MixtureRegressor("experts").fit(
        nothing, pd.DataFrame(columns=["x"], dtype=float), experts=kept
    )
    prior = dict(zip(NAMES, PRIOR.tolist(), strict=True))
    choice = Choice(kl_strength="auto")
    chosen = choose_mixture(regressor, "x", prior=prior, swarm=nothing, choice=choice)
    assert chosen.kl_strength == 0
    assert any("no run says what leaving the prior costs" in warning for warning in chosen.warnings)


@pytest.mark.parametrize("most", [1.0, 0.05], ids=["free", "bounded"])
def test_domains_of_one_text_share_what_one_would_get_as_in_the_prior(kept, most):
    alike, names = np.array([0, 1, 1, 2, 3, 4, 1]), tuple("abxcdey")
    prior = PRIOR[alike] * np.array([1.0, 0.5, 0.3, 1.0, 1.0, 1.0, 0.2])
    table = pd.DataFrame(np.eye(7), list("stuvwxy"), names)
    copied = Kept(table, {name: logs[alike] for name, logs in kept.logs.items()}, kept.texts)
    found = []
    for experts, domains, share, bounds in (
        (kept, NAMES, PRIOR, {}),
        (copied, names, prior, {"b": most}),
    ):
        nothing = pd.DataFrame(columns=list(domains), dtype=float)
        regressor = MixtureRegressor("experts").fit(
            nothing, pd.DataFrame(columns=["x"], dtype=float), experts=experts
        )
        given, free = dict(zip(domains, share.tolist(), strict=True)), Sampling(max_epochs=None)
        chosen = choose_mixture(regressor, "x", prior=given, choice=Choice(max=bounds), sampling=free)
        found.append(pd.Series(chosen.weights))
    once, apart = found
    copies = apart[["b", "x", "y"]]
    np.testing.assert_allclose([copies.sum(), *apart[list("acde")]], once[list("bacde")], atol=2e-4)
    assert copies["b"] == pytest.approx(min(once["b"] / 2, most), abs=1e-4)
    assert copies["x"] / copies["y"] == pytest.approx(1.5, abs=0.01)


def test_a_choice_draws_no_candidates_and_may_give_a_domain_what_its_expert_had(kept):
    swarm = pd.DataFrame(np.random.default_rng(2).dirichlet(10 * PRIOR, 12), columns=NAMES)
    losses = pd.DataFrame(
        {"a": 3 - swarm["a"] / 2, "x": 3 - swarm["b"] + 0.1 * np.random.default_rng(3).random(12)}
    )
    regressor = MixtureRegressor("experts").fit(swarm, losses, experts=kept)
    chosen = choose_mixture(
        regressor,
        "x",
        prior=dict(zip(NAMES, PRIOR.tolist(), strict=True)),
        swarm=swarm,
        choice=Choice(
            num_candidates=1, top_k=1, max={"a": 0.15}, groups={"some": Group(domains=["b", "c"], max=0.4)}
        ),
        sampling=Sampling(max_epochs=1.5),
    )
    assert [candidate.method for candidate in chosen.candidates] == ["optimised"]
    assert "convex" in chosen.reason
    assert chosen.weights["a"] <= 0.15
    [some] = chosen.groups
    assert (some.chosen, some.held_at) == (pytest.approx(0.4, abs=1e-9), "max")
    assert max(chosen.weights[name] / share for name, share in zip(NAMES, PRIOR, strict=True)) > 1.5
