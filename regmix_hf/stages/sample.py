"""Stage 2, `sample`: draw the mixtures of the swarm around the prior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from regmix_hf.files import hash_value, read_json, read_parquet, write_parquet
from regmix_hf.mixtures import Constraints, count_zeros, sample_mixtures, sampling_constraints
from regmix_hf.mixtures.experts import expert_mixtures, with_experts
from regmix_hf.mixtures.final import final_constraints
from regmix_hf.mixtures.repetition import longest_reading, stamp_matching
from regmix_hf.mixtures.table import EXPERT, LADDER, REPEAT, SAMPLED, over, read_mixtures
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.outcome import stamp_ladder
from regmix_hf.study import Stage, Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.names import CORPUS, CORPUS_FACTS, MIXTURES, MIXTURES_TABLE

#: Experts that are filled up are told apart by differences of what they give a token. Multiplied by more than
#: this, little is left beside half precision and the noise of training.
_MOST_TOLD_APART = 30.0


def stamp_swarm(recipe: Recipe) -> dict[str, str]:
    """What counts for the swarm beside the keys that its stages read."""
    return {**stamp_matching(recipe), **stamp_ladder(recipe)}


STAGE = Stage(
    verb="sample",
    folder=MIXTURES,
    keys=("seed", "domains", "sampling", "proxy.num_train_tokens"),
    inputs=(f"{CORPUS}/{CORPUS_FACTS}",),
    outputs=(MIXTURES_TABLE,),
    outside=stamp_swarm,
)


def run(study: Study, progress: Progress) -> None:
    """Add what lacks to the table of mixtures, and say which domains are rare or lost in it.

    Rows that are there stay as they are, whoever wrote them and whatever the recipe said then.

    Raises:
        MixtureError: The bounds leave nothing, or too little, to sample, or mixtures that are there give
            weight to what is no training domain any more.
        StudyError: The corpus is not prepared yet.
    """
    recipe = study.recipe
    tokens = CorpusFacts.load(study.corpus).available_tokens(recipe)
    constraints = sampling_constraints(recipe.sampling, tokens, num_train_tokens=longest_reading(recipe))
    there = over(read_mixtures(study.mixtures), list(tokens)) if study.mixtures.exists() else None
    mixtures = sample_mixtures(
        tokens,
        recipe.sampling,
        constraints=constraints,
        existing=there,
        further=[rung.num_mixtures or 0 for rung in recipe.proxies[1:]],
        random_state=recipe.seed,
    )
    if recipe.sampling.experts:
        mixtures = with_experts(mixtures, tokens, recipe.sampling.max_epochs, longest_reading(recipe))
    settings = _settings(recipe, constraints)
    if there is not None:
        _compare(study, there, mixtures, settings, progress)
    is_expert = mixtures["origin"] == EXPERT
    swarm = mixtures[(mixtures["rung"] == 0) & ~is_expert]
    zeros = count_zeros(swarm)
    num_fit = int((swarm["split"] == "fit").sum())
    learnt = "only its expert tells of it" if recipe.sampling.experts else "nothing is learnt about it"
    for domain, count in zeros.items() if num_fit else ():
        if message := _missing(domain, count, num_fit, recipe.sampling.min_weight, learnt):
            progress.note(message)
    if there is None or len(mixtures) > len(there) or set(mixtures) - set(read_parquet(study.mixtures)):
        write_parquet(study.mixtures, mixtures)
    repeats = int((mixtures["origin"] == REPEAT).sum())
    progress.note(
        f"{count_of(num_fit, 'mixture')} of {count_of(len(tokens), 'domain')} to fit on, "
        f"{len(swarm) - num_fit} held out"
        + (f"; of those to fit on {repeats} are others run again with another seed" if repeats else "")
        + (
            f"; beside them {count_of(is_expert.sum(), 'expert')} of a single domain"
            if is_expert.any()
            else ""
        )
    )
    for note in (*_cut_off(recipe, tokens), *_filled_up(recipe, tokens)):
        progress.note(note)
    for number, (section, rung) in enumerate(recipe.rungs.items()):
        if number:
            count = int(((mixtures["rung"] == number) & (mixtures["origin"] == LADDER)).sum())
            progress.note(f"{section}: {count} of them at {rung.scale or 'another size'}, too")
    study.finish(STAGE, {"num_mixtures": len(mixtures), "zero_weights": zeros, "settings": settings})


def _compare(
    study: Study, there: pd.DataFrame, mixtures: pd.DataFrame, settings: str, progress: Progress
) -> None:
    """Say what of the table was there before, where that is not what the recipe asks for now."""
    sampling, new = study.recipe.sampling, int((mixtures["rung"] == 0).sum() - (there["rung"] == 0).sum())
    for split, asked in (("fit", sampling.num_mixtures), ("holdout", sampling.num_holdout)):
        count = int(((there["split"] == split) & there["origin"].isin([SAMPLED, REPEAT])).sum())
        if count > asked:
            progress.note(
                f"{count} mixtures of the split {split!r} were sampled before and stay; {asked} are asked for"
            )
    repeats = int((mixtures["origin"] == REPEAT).sum())
    if repeats < sampling.num_repeats:
        progress.note(
            f"sampling.num_repeats {sampling.num_repeats}: {repeats} mixtures are run again, because those "
            f"to fit on were drawn before; raise sampling.num_mixtures by {sampling.num_repeats - repeats}"
        )
    marker = study.marker(STAGE)
    before = read_json(marker).get("settings") if marker.exists() else None
    if before not in (None, settings):
        progress.note(
            f"the {len(there)} mixtures that were there stay, though seed, bounds, prior or `sampling` have "
            f"changed since; {new} new ones are drawn as the recipe says now. To draw all anew, remove "
            f"{study.mixtures.parent}"
        )
    elif new:
        progress.note(f"{count_of(new, 'mixture')} more than the {len(there)} that were there")


def _cut_off(recipe: Recipe, tokens: Mapping[str, int]) -> Iterator[str]:
    """Say that the smallest domain is cut off below the middle of its draws; a final model may have more."""
    most, name = recipe.sampling.max_epochs, min(tokens, key=lambda domain: tokens[domain])
    if most is None:
        return
    cap = most * tokens[name] / max(sum(tokens.values()), longest_reading(recipe))
    centre = {domain: count**recipe.sampling.temperature for domain, count in tokens.items()}
    middle = centre[name] / sum(centre.values())
    allowed = min(recipe.sampling.max.get(name, 1.0), final_constraints(recipe, tokens).largest[name])
    if cap < min(middle, allowed):
        yield (
            f"sampling.max_epochs {most:g}: mixtures may have at most {100 * cap:.3g} % of domain {name!r}, "
            f"less than the middle of what is drawn, {100 * middle:.3g} %; a final model may have "
            f"{100 * allowed:.3g} %, and for proxies to tell of that write {np.ceil(most * allowed / cap):g}"
        )


def _filled_up(recipe: Recipe, tokens: Mapping[str, int]) -> Iterator[str]:
    """Name the experts that have other domains beside their own, for want of text."""
    most = recipe.sampling.max_epochs
    if not recipe.sampling.experts or most is None:
        return
    mixtures = expert_mixtures(tokens, most, longest_reading(recipe))
    for name, share in zip(tokens, np.diag(mixtures).tolist(), strict=True):
        if share < 1:
            yield (
                f"the expert of domain {name!r} has {100 * share:.3g} % of it, as sampling.max_epochs "
                f"{most:g} allows no more; the rest are the others as they are in the text"
            )
    factors = np.abs(np.linalg.pinv(mixtures)).max(axis=1)
    if drowned := [name for name, factor in zip(tokens, factors, strict=True) if factor > _MOST_TOLD_APART]:
        yield (
            f"warning: experts tell {', '.join(drowned)} apart by differences so small that they are mostly "
            f"noise, multiplied by up to {factors.max():.3g}; raise sampling.max_epochs, make proxies "
            "shorter, or pin what there is so little of by choice.fixed"
        )


def _settings(recipe: Recipe, constraints: Constraints) -> str:
    """Hash what mixtures are drawn from, however many they are."""
    drawn = recipe.sampling.model_dump(
        mode="json", exclude={"num_mixtures", "num_holdout", "num_repeats", "experts"}
    )
    limits = zip(constraints.lower.tolist(), constraints.upper.tolist(), strict=True)
    bounds = dict(zip(constraints.domains, limits, strict=True))
    return hash_value({"seed": recipe.seed, "sampling": drawn, "bounds": bounds})[:16]


def _missing(domain: str, zeros: int, count: int, min_weight: float, learnt: str) -> str | None:
    """What to say about a domain that too few mixtures give a weight, or `None`."""
    if zeros == count:
        return (
            f"warning: no mixture to fit on gives domain {domain!r} a weight, so {learnt}; "
            f"lower sampling.min_weight {min_weight:g}, set sampling.min.{domain}, or sample more mixtures"
        )
    if zeros > 0.9 * count:
        return (
            f"note: only {count - zeros} of {count} mixtures to fit on give domain {domain!r} a weight; "
            f"lower sampling.min_weight {min_weight:g} or set sampling.min.{domain} to learn more about it"
        )
    return None
