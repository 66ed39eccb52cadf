"""The allowed mixture with the smallest objective, for regressors whose predictions have derivatives."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.optimize import minimize

from regmix_hf.choice.descent import descend
from regmix_hf.choice.objective import Objective
from regmix_hf.mixtures import Array, Constraints

#: Stops when steps improve the objective by less than this, in nats.
_PRECISION = 1e-11
_MAX_STEPS = 2000
#: Heights by which the smooth stand-in for the worst loss is above it at most, per logarithm of the number of
#: losses; in nats, each the start of the next.
_SMOOTHINGS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
#: Most steps with one of them, and the share of it by which they shall come near.
_SMOOTH_STEPS, _SMOOTH_PRECISION = 300, 1e-3
#: Most steps of the quadratic programming.
_MOST_QUADRATIC = 100


def optimise(objective: Objective, constraints: Constraints, starts: Array) -> Array:
    """Solve the constrained problem by projected gradients, from several starts at once.

    The worst of several losses is not smooth where two are equally bad. There `m * log sum exp(loss / m)` is
    made small for ever smaller `m`, and from where that ends, by sequential quadratic programming, the
    smallest `z` with `loss_t(w) <= z` for all `t`.

    Args:
        objective: With a model that is smooth.
        constraints: Bounds of the weights.
        starts: Mixtures to start from, `(s, d)`; projected onto the constraints first.

    Returns:
        The best mixture found, `(d,)`; never worse than a start.
    """
    starts = constraints.project(starts)
    if objective.shares is not None:
        found = descend(
            objective, objective.slope, constraints, starts, precision=_PRECISION, max_steps=_MAX_STEPS
        )
    else:
        near = _best(objective, np.concatenate([_smoothed(objective, constraints, starts), starts]))
        found = np.stack([near, constraints.project(_lower_worst(objective, constraints, near)[None])[0]])
    return _best(objective, np.concatenate([found, starts]))


def _best(objective: Objective, points: Array) -> Array:
    return np.asarray(points[int(np.argmin(objective(points)))])


def _smoothed(objective: Objective, constraints: Constraints, points: Array) -> Array:
    """Lower a smooth bound of the worst loss, ever closer to it, from each point."""
    for smoothing in _SMOOTHINGS:
        points = descend(
            partial(objective.smooth_worst, smoothing=smoothing),
            partial(objective.smooth_worst_slope, smoothing=smoothing),
            constraints,
            points,
            precision=_SMOOTH_PRECISION * smoothing,
            max_steps=_SMOOTH_STEPS,
        )
    return points


def _lower_worst(objective: Objective, constraints: Constraints, start: Array) -> Array:
    def value(point: Array) -> float:
        return float(point[-1] + objective.divergence_cost(_row(point[:-1]))[0])

    def slope(point: Array) -> Array:
        return np.append(objective.divergence_slope(_row(point[:-1]))[0], 1.0)

    def slack(point: Array) -> Array:
        return np.asarray(point[-1] - objective.values(_row(point[:-1]))[0])

    def slack_slope(point: Array) -> Array:
        falls = -objective.values_slope(_row(point[:-1]))[0]
        return np.column_stack([falls, np.ones(len(falls))])

    total_slope = np.append(np.ones(len(start)), 0.0)
    conditions = [
        {"type": "eq", "fun": lambda point: point[:-1].sum() - 1.0, "jac": lambda _: total_slope},
        {"type": "ineq", "fun": slack, "jac": slack_slope},
    ]
    if constraints.groups:
        matrix, least = constraints.group_limits
        slopes = np.pad(matrix, ((0, 0), (0, 1)))
        conditions.append(
            {"type": "ineq", "fun": lambda point: slopes @ point - least, "jac": lambda _: slopes}
        )
    worst = objective.values(start[None])[0].max()
    bounds = [*zip(constraints.lower.tolist(), constraints.upper.tolist(), strict=True), (None, None)]
    solution = minimize(
        value,
        np.append(start, worst),
        jac=slope,
        bounds=bounds,
        constraints=conditions,
        method="SLSQP",
        options={"ftol": _PRECISION, "maxiter": _MOST_QUADRATIC},
    )
    return np.asarray(solution.x[:-1] if np.isfinite(solution.x).all() else start)


def _row(weights: Array) -> Array:
    """One mixture as a matrix; steps of the solver may leave 0 by the rounding of a sum."""
    return np.asarray(np.maximum(weights, 0.0)[None])
