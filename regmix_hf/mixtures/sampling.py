"""The swarm's mixtures: RegMix's sampler, without near-duplicates, split into fit and holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from regmix_hf.errors import MixtureError
from regmix_hf.mixtures.capped_sum import Array
from regmix_hf.mixtures.constraints import Constraints, EpochCap
from regmix_hf.mixtures.dirichlet import NUM_STRENGTHS, AroundPrior
from regmix_hf.mixtures.mixture import normalise
from regmix_hf.mixtures.spread import spread
from regmix_hf.mixtures.table import GIVEN, LADDER, REPEAT, SAMPLED, append, empty
from regmix_hf.recipe import Sampling
from regmix_hf.seeds import WEIGHTS, generator
from regmix_hf.tables import by_domain

#: Two mixtures are near-duplicates when they differ in a smaller share of the training tokens (total
#: variation). The two closest of RegMix's 512 published mixtures differ in 1.15 %.
NEAR = 0.01
#: Below this distance mixtures count as equal.
_EQUAL = 1e-6
#: Draws at a time. Fixed, so that a larger sample begins with the smaller one of the same seed.
_ROWS = 64 * NUM_STRENGTHS
#: When fewer than this share of new draws is far enough from the kept ones, the room is full.
_CROWDED = 0.02


def sample_mixtures(
    prior: Mapping[str, float],
    sampling: Sampling | None = None,
    *,
    constraints: Constraints | None = None,
    existing: pd.DataFrame | None = None,
    further: Sequence[int] = (),
    random_state: int = 0,
) -> pd.DataFrame:
    """Draw the mixtures of a swarm around a prior, or what lacks of them in a table that is there.

    No two are near-duplicates: they differ in at least 1 % of the tokens. Where the constraints leave no
    room for that many mixtures, the distance is halved until there is. With the same `random_state` a
    larger sample begins with the mixtures of a smaller one, so a swarm can grow: the rows of `existing` stay
    as they are, and are only added to.

    Args:
        prior: Tokens, or shares of tokens, of every domain.
        sampling: Numbers of mixtures and repeats, temperature, strengths, floor; RegMix's values by default.
        constraints: Bounds. By default the `min` and `max` of `sampling`, and at most `max_epochs` times
            the prior (RegMix's cap: that many epochs of a run over all available tokens).
        existing: The table so far, over the domains of `prior`. Of its rows those that were sampled, and
            their repeats, count.
        further: How many mixtures to fit on are trained at each further size or length of proxies, too.
        random_state: Seed.

    Returns:
        The table `mixtures`: `mixture_id` (`m0000`, ...), `split` (`fit` or `holdout`, at random), `round`
        (from 0), `origin` (`sampled`, `repeat` for a mixture to fit on that is run once more with another
        seed, `ladder` for one that is run at another size, too), `rung` (which size and length, from 0) and
        `weight/<domain>` (share of training tokens).

    Raises:
        MixtureError: The prior is none, or the constraints leave nothing, or too little, to sample.

    >>> table = sample_mixtures({"web": 3.0, "code": 1.0}, Sampling(num_mixtures=3, num_holdout=1))
    >>> list(table.columns)
    ['mixture_id', 'split', 'round', 'origin', 'rung', 'weight/web', 'weight/code']
    >>> sorted(table["split"])
    ['fit', 'fit', 'fit', 'holdout']
    """
    sampling = sampling or Sampling()
    constraints = constraints or sampling_constraints(sampling, prior)
    there = empty(constraints.domains) if existing is None else existing
    distribution = around_prior(prior, sampling, constraints, min_weight=sampling.min_weight)
    before = by_domain(there, "weight").to_numpy(dtype=np.float64)
    of_swarm = ((there["split"] == "fit") & there["origin"].isin([SAMPLED, GIVEN, REPEAT])).to_numpy(bool)
    count, num_repeats, num_holdout = _lacking(sampling, there, len(_run_once(before[of_swarm])))
    weights = _draw_distinct(distribution, before, count, generator(random_state, *WEIGHTS))
    splits = _splits(len(there), len(weights), num_holdout, random_state)
    fitted = np.concatenate([before[of_swarm], weights[[split == "fit" for split in splits]]])
    again = _to_repeat(fitted, num_repeats, random_state)
    upwards, rungs = _upwards(there, before, fitted, further, random_state)
    return append(
        there,
        np.concatenate([weights, again, upwards]),
        [*splits, *["fit"] * (num_repeats + len(rungs))],
        [*[SAMPLED] * count, *[REPEAT] * num_repeats, *[LADDER] * len(rungs)],
        [*[0] * (count + num_repeats), *rungs],
    )


def _lacking(sampling: Sampling, there: pd.DataFrame, once: int) -> tuple[int, int, int]:
    """Count the mixtures that a table lacks, the repeats, and how many of the mixtures are held out.

    `once` is how many of the table's mixtures to fit on are run once.
    """
    drawn = there.loc[there["origin"] == SAMPLED, "split"]
    repeated = int((there["origin"] == REPEAT).sum())
    num_fit = max(0, sampling.num_mixtures - int((drawn == "fit").sum()) - repeated)
    # Each repeats another mixture, one that is there or one of those that are added with it.
    num_repeats = min(num_fit, max(0, sampling.num_repeats - repeated), (once + num_fit) // 2)
    num_holdout = max(0, sampling.num_holdout - int((drawn == "holdout").sum()))
    return num_fit - num_repeats + num_holdout, num_repeats, num_holdout


def _upwards(
    there: pd.DataFrame, before: Array, fitted: Array, further: Sequence[int], random_state: int
) -> tuple[Array, list[int]]:
    """Pick mixtures to train at further sizes that are not yet, and say of each at which."""
    on_rung = there["rung"].where(there["origin"] == LADDER)
    picked = [
        spread(fitted, before[on_rung == number], count, random_state)
        for number, count in enumerate(further, 1)
    ]
    rungs = [number for number, rows in enumerate(picked, 1) for _ in rows]
    return np.concatenate([fitted[:0], *picked]), rungs


def _to_repeat(fitted: Array, count: int, random_state: int) -> Array:
    """Pick mixtures at random, of those that are run once so far."""
    once = _run_once(fitted)
    rng = generator(random_state, "repeat", len(fitted))
    return np.asarray(once[rng.choice(len(once), count, replace=False)] if count else once[:0])


def _run_once(fitted: Array) -> Array:
    """The mixtures that are run once, sorted."""
    distinct, runs = np.unique(fitted, axis=0, return_counts=True)
    return np.asarray(distinct[runs == 1])


def _splits(first: int, count: int, num_holdout: int, random_state: int) -> list[str]:
    """Hold out some of `count` new rows at random: each draws a number of its own, the least are held out."""
    draws = [generator(random_state, "split", first + row).random() for row in range(count)]
    held_out = set(np.argsort(draws)[:num_holdout].tolist())
    return ["holdout" if row in held_out else "fit" for row in range(count)]


def sampling_constraints(
    sampling: Sampling, tokens: Mapping[str, float], *, num_train_tokens: float = 0.0
) -> Constraints:
    """Return the bounds of the swarm's mixtures.

    `max_epochs` holds for a run of `num_train_tokens` and for one over all available tokens, whichever is
    longer: the second is RegMix's cap of `max_epochs` times the prior.

    Args:
        sampling: Bounds of single domains, and `max_epochs`.
        tokens: Tokens, or shares of tokens, of every domain.
        num_train_tokens: Length of a proxy run, in the unit of `tokens`.

    Raises:
        MixtureError: No mixture meets the bounds.
    """
    epochs = None
    if sampling.max_epochs is not None:
        epochs = EpochCap(sampling.max_epochs, tokens, max(sum(tokens.values()), num_train_tokens))
    return Constraints(tuple(tokens), sampling.min, sampling.max, epochs=epochs, name="sampling")


def around_prior(
    prior: Mapping[str, float], sampling: Sampling, constraints: Constraints, *, min_weight: float = 0.0
) -> AroundPrior:
    """Return the distribution that `sampling` describes, within `constraints`."""
    return AroundPrior(
        normalise(prior, constraints.domains, name="prior"),
        constraints,
        temperature=sampling.temperature,
        min_strength=sampling.min_strength,
        max_strength=sampling.max_strength,
        min_weight=min_weight,
    )


def count_zeros(mixtures: pd.DataFrame) -> dict[str, int]:
    """Count for every domain the mixtures to fit on that give it no weight.

    A domain that has none in all of them is lost: nothing can be learnt about it.
    """
    fitted = by_domain(mixtures[mixtures["split"] == "fit"], "weight")
    return {str(domain): int(count) for domain, count in (fitted == 0).sum().items()}


def _draw_distinct(distribution: AroundPrior, before: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw `count` mixtures that are far from each other and from those `before`.

    With the generator that drew the ones before, they are the next ones: those are drawn again and left out.
    """
    kept, unseen, near = before, before, NEAR
    if not count:
        return kept[:0]
    for drawn in distribution.chunks(rng, _ROWS):
        new = _thin(drawn[_far_from(kept, drawn, near)], near)
        kept = np.concatenate([kept, new])
        if len(kept) >= len(before) + count:
            return kept[len(before) : len(before) + count]
        still_unseen = unseen[_far_from(drawn, unseen, _EQUAL)]
        if len(new) + len(unseen) - len(still_unseen) <= _CROWDED * len(drawn):
            near /= 2
        if near < _EQUAL:
            break
        unseen = still_unseen
    raise MixtureError(
        f"{distribution.constraints.name}: the constraints leave room for about {len(kept)} different "
        f"mixtures, but num_mixtures and num_holdout ask for {len(before) + count}.",
        "ask for fewer, or loosen min, max or max_epochs",
    )


def _far_from(kept: Array, drawn: Array, near: float) -> NDArray[np.bool_]:
    """Tell which drawn rows differ from all `kept` ones in at least `near` of the tokens."""
    if not len(kept):
        return np.ones(len(drawn), dtype=bool)
    radius = 2 * near  # total variation is half the sum of absolute differences
    distance, _ = KDTree(kept).query(drawn, p=1, distance_upper_bound=radius)
    return np.asarray(distance >= radius)


def _thin(drawn: Array, near: float) -> Array:
    """Leave out every row that is near to one that stays before it."""
    if not len(drawn):
        return drawn
    stays = np.ones(len(drawn), dtype=bool)
    pairs = KDTree(drawn).query_pairs(2 * near, p=1, output_type="ndarray")
    for earlier, later in pairs[np.argsort(pairs[:, 0], kind="stable")]:
        if stays[earlier]:
            stays[later] = False
    return np.asarray(drawn[stays])
