"""Constraints: what is allowed, what clashes and what would do, and the nearest allowed mixture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import Constraints, EpochCap
from regmix_hf.recipe import Group
from tests.bounds import allowed


def grouped(domains, **bounds):
    """The argument that bounds these together, in a group that is called `few`."""
    return {"groups": {"few": Group(domains=tuple(domains), **bounds)}}


def test_bounds_are_the_tightest_of_all_that_is_said():
    cap = EpochCap(4, {"a": 1_000, "b": 100, "c": 1_000}, 1_000)
    bounds = Constraints(("a", "b", "c"), {"a": 0.1}, {"a": 0.7}, {"c": 0.2}, epochs=cap)
    assert bounds.lower.tolist() == [0.1, 0.0, 0.2]
    assert bounds.upper.tolist() == [0.7, 0.4, 0.2]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"minimum": {"x": 0.1}}, "constraints.min: 'x' is no domain"),
        ({"maximum": {"a": 1.5}}, "constraints.max.a is 1.5; write a number in 0..1."),
        ({"minimum": {"a": float("nan")}}, "constraints.min.a is nan"),
        ({"minimum": {"a": 0.5}, "maximum": {"a": 0.4}}, "'a' has min 0.5 above its max 0.4"),
        ({"fixed": {"a": 0.5}, "maximum": {"a": 0.4}}, "'a' is fixed to 0.5; its bounds are 0.0 and 0.4"),
        ({"minimum": {"a": 0.7, "b": 0.5}}, "least weights sum to 1.2, above 1: 'a' 0.7, 'b' 0.5"),
        ({"maximum": {"a": 0.5, "b": 0.2}, "fixed": {"c": 0.1}}, "together may have 0.8, less than 1"),
        ({"epochs": EpochCap(4, {"a": 1.0, "b": 1.0}, 1.0)}, "max_epochs needs the number of tokens of 'c'"),
        (grouped(["a", "x"], max=0.1), "constraints.groups.few: 'x' is no domain; known are 'a', 'b', 'c'."),
        ({"groups": {"c": Group(domains=("a", "b"), max=0.2)}}, "groups.c: a domain is called 'c', too."),
        (grouped(["b", "a", "b"], max=0.1), "constraints.groups: 'b' is in 'few' twice."),
        (
            {"groups": {n: Group(domains=("a", "b"), max=0.2) for n in ("few", "small")}},
            "'a' is in 'few' and in 'small'.\n  a domain may be in one group, once",
        ),
        (
            {"minimum": {"a": 0.25}, "fixed": {"b": 0.15}, **grouped(["a", "b"], max=0.3)},
            "the least weights of group 'few' sum to 0.4, above its max 0.3: 'a' 0.25, 'b' 0.15.\n"
            "  raise constraints.groups.few.max to 0.4, or lower min or fixed of its domains by 0.1 together",
        ),
        (
            {"maximum": {"a": 0.1, "b": 0.2}, **grouped(["a", "b"], min=0.5)},
            "domain 'b' is given max 0.2; domain 'a' is given max 0.1; group 'few' may have 0.3, less than "
            "its min 0.5.\n  lower constraints.groups.few.min to 0.3, or raise max or fixed by 0.2 together",
        ),
        (
            {"minimum": {"c": 0.3}, **grouped(["a", "b"], min=0.8)},
            "the least weights sum to 1.1, above 1: group 'few' 0.8, 'c' 0.3.\n  lower min or fixed by 0.1",
        ),
        (
            {"maximum": {"c": 0.2}, **grouped(["a", "b"], max=0.5)},
            "group 'few' is given max 0.5; domain 'c' is given max 0.2; all domains together may have 0.7, "
            "less than 1.\n  raise max of group 'few' by 0.3 together",
        ),
        (
            {"maximum": {"a": 0.1}, "epochs": EpochCap(4, {"a": 100.0, "b": 1.0, "c": 2.0}, 100.0)},
            "domain 'a' is given max 0.1; domain 'c' has 2 tokens",
        ),
        (
            {"maximum": {"a": 0.4}, "epochs": EpochCap(4, {"a": 10.0, "b": 0.0, "c": 0.0}, 40.0)},
            "may have 0.4, less than 1.\n  raise max or fixed of a domain that has tokens",
        ),
        (
            {"epochs": EpochCap(4, dict.fromkeys("abc", 0.0), 40.0)},
            "may have 0, less than 1.\n  raise max or fixed of a domain that has tokens",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_by_name(bounds, message):
    with pytest.raises(MixtureError) as error:
        Constraints(("a", "b", "c"), **bounds)
    assert message in str(error.value)


def test_caps_that_leave_too_little_say_which_bind_and_what_would_do():
    cap = EpochCap(4, {"x": 1_200_000, "y": 800_000}, 10_000_000)
    with pytest.raises(MixtureError) as error:
        Constraints(("x", "y"), epochs=cap, name="choice")
    assert str(error.value) == (
        "choice: domain 'x' has 1.2M tokens: at max_epochs 4 and a run of 10M tokens it may have at most "
        "0.48; domain 'y' has 800k tokens: at max_epochs 4 and a run of 10M tokens it may have at most 0.32; "
        "all domains together may have 0.8, less than 1.\n"
        "  raise max_epochs to 5, train on at most 8M tokens, or give the domains more text"
    )


def test_the_advised_number_of_epochs_is_enough_and_hardly_more():
    tokens = {"a": 123_457.0, "b": 7_001.0, "c": 55_555.0}
    bounds = {"maximum": {"a": 0.42}}
    with pytest.raises(MixtureError) as error:
        Constraints(tuple(tokens), **bounds, epochs=EpochCap(2, tokens, 1e6))
    advised = float(str(error.value).split("raise max_epochs to ")[1].split(",")[0])
    Constraints(tuple(tokens), **bounds, epochs=EpochCap(advised, tokens, 1e6))
    with pytest.raises(MixtureError):
        Constraints(tuple(tokens), **bounds, epochs=EpochCap(advised * 0.99, tokens, 1e6))


@pytest.mark.parametrize(
    ("groups", "total"),
    [
        (grouped(["a", "b"], max=0.3), "all domains together"),
        (grouped(["b", "c"], min=0.55), "group 'few' may have 0.42"),
    ],
)
def test_so_it_is_where_groups_bind(groups, total):
    tokens = {"a": 100_000.0, "b": 70_000.0, "c": 140_000.0, "d": 90_000.0}
    with pytest.raises(MixtureError, match=total) as error:
        Constraints(tuple(tokens), **groups, epochs=EpochCap(2, tokens, 1e6))
    advised = float(str(error.value).split("raise max_epochs to ")[1].split(",")[0])
    Constraints(tuple(tokens), **groups, epochs=EpochCap(advised, tokens, 1e6))
    with pytest.raises(MixtureError):
        Constraints(tuple(tokens), **groups, epochs=EpochCap(advised * 0.99, tokens, 1e6))


def test_no_domain_may_have_more_than_its_group():
    bounds = Constraints(("a", "b", "c"), maximum={"a": 0.1}, **grouped(["a", "b"], max=0.3))
    assert bounds.largest == {"a": 0.1, "b": 0.3, "c": 1.0}


def test_a_min_above_what_the_data_allows_names_both():
    cap = EpochCap(2, {"a": 10_000, "b": 1_000_000}, 100_000)
    with pytest.raises(MixtureError) as error:
        Constraints(("a", "b"), {"a": 0.3}, epochs=cap)
    assert "may have at most 0.2, below its min 0.3" in str(error.value)
    assert "write min 0.2 or less, or raise max_epochs to 3" in str(error.value)


def test_projection_of_hand_checked_points():
    bounds = Constraints(("a", "b", "c"), minimum={"c": 0.1}, maximum={"a": 0.5})
    points = np.array([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    # The second: a stops at 0.5, b and c share the other 0.5 evenly.
    expected = [[0.2, 0.3, 0.5], [0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(bounds.project(points), expected, atol=1e-15)


def test_projection_onto_groups_of_hand_checked_points():
    bounds = Constraints(tuple("abcd"), {"d": 0.1}, {"a": 0.15}, **grouped(["a", "b"], max=0.4))
    points = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0], [0.1, 0.5, 0.5, 0.5]])
    # The second: the group stops at 0.4, of which a may have 0.15; c and d share the other 0.6 evenly.
    # The third: with 0.2 less of each a would be at 0 and the sum 0.9, so the others give 0.5 / 3 each.
    expected = [[0.1, 0.2, 0.3, 0.4], [0.15, 0.25, 0.3, 0.3], [0.0, 1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(bounds.project(points), expected, atol=1e-15)
    asked = Constraints(tuple("abcd"), **grouped(["a", "b"], min=0.5))
    expected = [[0.2, 0.3, 0.2, 0.3], [0.5, 0.5, 0.0, 0.0], [0.05, 0.45, 0.25, 0.25]]
    np.testing.assert_allclose(asked.project(points), expected, atol=1e-15)
    assert asked.allows(np.array([*expected, [0.2, 0.2, 0.3, 0.3]])).tolist() == [True, True, True, False]


def test_weights_of_a_group_are_scaled_where_the_scale_is_the_weight_itself():
    points = np.array([[0.1, 0.3, 0.2, 0.4]])
    bounds = Constraints(tuple("abcd"), **grouped(["a", "b"], max=0.2))
    expected = [[0.05, 0.15, 0.8 / 3, 1.6 / 3]]
    np.testing.assert_allclose(bounds.project(points, points), expected, atol=1e-15)


def test_of_points_far_away_no_rounding_is_left_in_the_sum():
    shares = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    bounds = Constraints(("a", "b", "c", "d", "e"), maximum={"a": 0.45})
    points = 1e10 * shares + np.random.default_rng(0).random((50, 5))
    found = bounds.project(points, np.tile(np.maximum(shares, 1e-3), (50, 1)))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    assert bounds.allows(found).all()


def test_projection_onto_a_single_point_is_that_point():
    bounds = Constraints(("a", "b"), fixed={"a": 0.3, "b": 0.7})
    np.testing.assert_allclose(bounds.project(np.array([[5.0, -5.0], [0.0, 0.0]])), [[0.3, 0.7]] * 2)


@st.composite
def bounds_and_points(draw):
    number = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inside = rng.dirichlet(np.ones(number))
    names = tuple(f"d{i}" for i in range(number))
    tight = draw(st.sampled_from([0.0, 0.3, 1.0]))
    lower = {n: float(w * (1 - tight * rng.random())) for n, w in zip(names, inside, strict=True)}
    upper = {n: float(min(1.0, w + tight * rng.random())) for n, w in zip(names, inside, strict=True)}
    groups = {}
    for name, share in zip("xy", draw(st.sampled_from([(), (0.5,), (0.4, 0.8)])), strict=False):
        # The first group takes some of the domains, the second some of those that are left.
        taken = {domain for group in groups.values() for domain in group.domains}
        if own := tuple(domain for domain in names if domain not in taken and rng.random() < share):
            held = min(1.0, sum(float(inside[names.index(domain)]) for domain in own))
            ends = held * (1 - tight * rng.random()), min(1.0, held + tight * rng.random() / 2)
            end = draw(st.sampled_from(["min", "max", "both"]))
            if (ends := (ends[0] if end != "max" else 0.0, ends[1] if end != "min" else 1.0)) != (0.0, 1.0):
                groups[name] = Group(domains=own, min=ends[0], max=ends[1])
    keep = rng.random(number) < 0.7
    bounds = Constraints(
        names,
        {n: lower[n] for n, k in zip(names, keep, strict=True) if k},
        {n: upper[n] for n, k in zip(names, keep, strict=True) if not k or tight == 1.0},
        groups=groups,
    )
    points = rng.normal(scale=draw(st.sampled_from([1e-3, 1.0, 100.0])), size=(3, number))
    return bounds, points, rng


@given(bounds_and_points())
def test_projection_is_allowed_and_idempotent_and_no_allowed_mixture_is_nearer(case):
    bounds, points, rng = case
    nearest = bounds.project(points)
    assert allowed(bounds, nearest).all()
    np.testing.assert_allclose(bounds.project(nearest), nearest, atol=1e-12)
    others = bounds.project(rng.normal(size=(50, points.shape[1])))
    # The variational inequality that characterises a projection: (x - Px) . (y - Px) <= 0 for allowed y.
    products = np.einsum("nd,nmd->nm", points - nearest, others[None] - nearest[:, None])
    assert products.max() <= 1e-9 * max(1.0, np.abs(points).max())


def test_projection_agrees_with_a_general_solver():
    rng = np.random.default_rng(3)
    bounds = Constraints(
        tuple("abcde"),
        {"a": 0.05, "e": 0.1},
        {"b": 0.3},
        groups={"x": Group(domains=("c", "a"), min=0.2, max=0.35), "y": Group(domains=("b", "e"), min=0.3)},
        epochs=EpochCap(4, dict.fromkeys("abcde", 100) | {"d": 5}, 80),
    )
    matrix, least = bounds.group_limits
    for point in rng.normal(size=(5, 5)):
        solved = minimize(
            lambda w, point=point: ((w - point) ** 2).sum(),
            np.full(5, 0.2),
            bounds=list(zip(bounds.lower, bounds.upper, strict=True)),
            constraints=[
                {"type": "eq", "fun": lambda w: w.sum() - 1},
                {"type": "ineq", "fun": lambda w: matrix @ w - least},
            ],
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(bounds.project(point[None])[0], solved.x, atol=1e-6)


def test_a_scaled_projection_moves_large_scales_most_and_keeps_the_variational_inequality():
    free = Constraints(("a", "b", "c"))
    moved = free.project(np.array([[0.5, 0.5, 0.3]]), np.array([[1.0, 2.0, 0.0 + 1e-9]]))
    np.testing.assert_allclose(moved, [[0.4, 0.3, 0.3]], atol=1e-8)
    rng = np.random.default_rng(0)
    bounds = Constraints(("a", "b", "c"), minimum={"a": 0.1}, maximum={"b": 0.5})
    points, scale = rng.normal(size=(50, 3)), np.exp(rng.normal(size=(50, 3)))
    nearest = bounds.project(points, scale)
    assert allowed(bounds, nearest).all()
    others = bounds.project(rng.normal(size=(50, 3)))
    assert (
        ((points - nearest) / scale) @ others.T - (((points - nearest) / scale) * nearest).sum(1)[:, None]
    ).max() < 1e-9
