"""The page to explore a mixture with: one file that computes with the fitted law, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from regmix_hf.cards.choice_facts import ChoiceFacts
from regmix_hf.cards.export_parts import export_parts
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.laws import FAMILIES, law_state, packed
from regmix_hf.exports import TRAINERS, MixtureToTrain
from regmix_hf.mixtures import check_mixture
from regmix_hf.mixtures.final import given_mixture
from regmix_hf.mixtures.mixture import uniform
from regmix_hf.quantities import Quantity
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.by_size import scale_of
from regmix_hf.regression.final_run import as_final_runs_read
from regmix_hf.regression.intervals import FARTHEST, HalfWidth
from regmix_hf.regression.registry import WITH_EXPERTS
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs, load_runs
from regmix_hf.runs.sizes import scale_words
from regmix_hf.study import Study, names
from regmix_hf.study.described import described
from regmix_hf.study.table_fit import TableFit

#: What 16 experts give 8,192 tokens of each of their domains takes 5.6 MB, and sliders stay fluid.
MOST_MEGABYTES = 6
#: What a page of experts is large by.
_OF_EXPERTS = (
    ": it holds what each expert gives each token that is validated on, two bytes each; with a smaller "
    "corpus.max_validation_tokens, or by a family without experts, a study has one"
)
_PARTS = Path(__file__).parent / "explorer"
#: Read in this order: each uses what stands before it; `start` is called when all are there.
_SCRIPTS = ("laws.js", "mixture.js", "predictions.js", "trade_off.js", "exports.js", "page.js")


@dataclass(frozen=True)
class Explorer:
    """The page, or why there is none.

    Attributes:
        page: HTML; `None` where there is none.
        missing: What it would need.
    """

    page: str | None
    missing: str = ""


def explorer_page(
    place: Study | TableFit, facts: StudyFacts, mixture: MixtureToTrain | None = None
) -> Explorer:
    """Write the page of a study, or of a fit on tables, whose mixture is chosen.

    `mixture` is what other trainers may be told of its domains; `None`: all that recipe and counts say.

    Raises:
        RegressionError: The fit cannot be read.
    """
    if facts.choice is None or (facts.recipe is not None and facts.corpus is None):
        return Explorer(None, "no mixture is chosen yet")
    folder = place.regression / str(facts.choice.record["estimator"])
    if not (folder / "config.json").exists() or not (place.regression / names.FITTED_RUNS).exists():
        return Explorer(None, f"{folder} holds no fit")
    regressor, runs = MixtureRegressor.from_pretrained(folder), load_runs(place.regression).part("fit")
    families = {regressor.estimator, *getattr(regressor.model, "members_", ())}
    if unknown := sorted(families - set(FAMILIES)):
        return Explorer(None, f"it has no formula for {unknown[0]}")
    if (size := facts.choice.size) is not None:
        regressor = regressor.at(*size)
    tokens, length = facts.available_tokens, facts.asked.num_train_tokens
    if tokens is not None and length is not None:
        regressor = as_final_runs_read(regressor, length, tokens)
    told = replace(mixture or _told(facts), name="explored", weights=dict.fromkeys(regressor.domains_, 0.0))
    exports, left_out = export_parts(told)
    known = {
        **_known(place, facts, regressor, runs),
        "exports": exports,
        "tokens_per_document": _lengths(told),
    }
    script = "\n".join(_read(name) for name in _SCRIPTS) + "\nglobalThis.explorer = start();\n"
    environment = Environment(loader=FileSystemLoader(_PARTS), undefined=StrictUndefined, autoescape=True)
    page = environment.get_template("explorer.html.jinja").render(
        name=facts.asked.name,
        has_tokens=tokens is not None,
        has_recipe=facts.recipe is not None,
        coverage=f"{100 * facts.choice.coverage:.0f}",
        estimator=regressor.estimator,
        num_runs=regressor.num_runs_,
        fitted_on=facts.regression.fitted_on(regressor.estimator) if facts.regression else "",
        speaks_of=facts.choice.speaks_of,
        verdict=facts.verdict,
        unit=_only_unit(regressor),
        left_out=[(TRAINERS[name].title, reason) for name, reason in left_out.items()],
        css=Markup(_read("explorer.css")),
        script=Markup(script),
        facts=Markup(_json(known)),  # nothing in it can end the element
    )
    megabytes = len(page.encode()) / 1e6
    if megabytes > MOST_MEGABYTES:
        return Explorer(
            None,
            f"with {regressor.estimator} it would take {megabytes:.1f} MB, too many to share"
            + (_OF_EXPERTS if families.intersection(WITH_EXPERTS) else ""),
        )
    return Explorer(page)


def _known(
    place: Study | TableFit, facts: StudyFacts, regressor: MixtureRegressor, runs: Runs
) -> Mapping[str, Any]:
    """What the page computes with; shares of training tokens in the order of the regressor's domains."""
    assert facts.choice is not None
    domains, coverage = list(regressor.domains_), facts.choice.coverage
    target = Target.parse(facts.asked.target, regressor.quantities_, regressor.scales)
    (whole,) = regressor.interval_sizes(coverage, target)
    tokens = facts.available_tokens
    return {
        "domains": domains,
        "targets": list(regressor.targets_),
        "law": law_state(regressor),
        "coverage": coverage,
        "promised": regressor.num_runs_ > 0,
        "target": {
            "name": str(target),
            "unit": target.quantity.unit,
            "sign": target.quantity.sign,
            "used": [regressor.targets_.index(one.name) for one in target.used],
            "shares": target.shares.tolist() if target.is_linear else None,
            "factors": target.factors.tolist(),
            "offsets": target.offsets.tolist(),
            "interval": _interval(whole),
            "bounds": _bounds(target.quantity),
            "alone": _alone(target),
        },
        "units": [one.unit for one in regressor.quantities_.values()],
        "signs": [one.sign for one in regressor.quantities_.values()],
        "intervals": [_interval(width) for width in regressor.interval_sizes(coverage)],
        "bounds": [_bounds(one) for one in regressor.quantities_.values()],
        "runs": {
            "ids": [str(name) for name in runs.weights.index],
            "weights": packed(runs.weights[domains].to_numpy()),
            "losses": packed(runs.losses[list(regressor.targets_)].to_numpy()),
            "scale": _other_scale(facts.choice, runs),
        },
        "widest_gap": facts.choice.record.get("widest_gap_between_runs"),
        "mixtures": {
            name: [mixture.get(domain, 0.0) for domain in domains]
            for name, mixture in _mixtures(place, facts, domains).items()
        },
        "groups": [
            {
                "name": one.name,
                "places": [domains.index(domain) for domain in one.domains],
                "min": one.min,
                "max": one.max,
            }
            for one in facts.choice.groups
        ],
        "tokens": [tokens[domain] for domain in domains] if tokens else None,
        "budget": facts.asked.num_train_tokens,
        "epochs": facts.asked.max_epochs,
    }


def _alone(target: Target) -> int | None:
    """The number of the target that alone was asked for, as it is; `None`: it is made of others."""
    is_one = len(target.used) == 1 and not target.scales
    return target.names.index(target.used[0].name) if is_one else None


def _bounds(quantity: Quantity) -> list[float | None]:
    return [end if np.isfinite(end) else None for end in quantity.bounds]


def _other_scale(choice: ChoiceFacts, runs: Runs) -> str | None:
    """Size and length of the runs, where what is predicted is of others."""
    return None if choice.size is None or scale_words(*choice.size) == scale_of(runs) else scale_of(runs)


def _told(facts: StudyFacts) -> MixtureToTrain:
    """What is known of the domains; no files of this machine besides those that the recipe names."""
    mixture = MixtureToTrain("explored", {})
    return described(mixture, facts.recipe, facts.corpus) if facts.recipe and facts.corpus else mixture


def _lengths(mixture: MixtureToTrain) -> list[float] | None:
    """Mean tokens of a document, by domain, where they are known of all."""
    lengths = [mixture.tokens_per_document.get(name, 0.0) for name in mixture.weights]
    return lengths if all(lengths) else None


def _only_unit(regressor: MixtureRegressor) -> str | None:
    """The unit of all that is predicted, where all have one and the same."""
    units = {one.unit for one in regressor.quantities_.values()}
    return units.pop() if len(units) == 1 else None


def _mixtures(
    place: Study | TableFit, facts: StudyFacts, domains: Iterable[str]
) -> dict[str, Mapping[str, float]]:
    """The chosen one, the prior, the uniform one and the recipe's baselines, by name."""
    assert facts.choice is not None
    record, domains = facts.choice.record, tuple(domains)
    chosen = check_mixture(record["weights"], domains, name=str(place.mixture))
    if facts.recipe is None or facts.corpus is None:
        prior = check_mixture(record["prior"], domains, name=str(place.mixture))
        return {"chosen": chosen, "prior": prior, "uniform": uniform(domains)}
    tokens = facts.corpus.available_tokens(facts.recipe)
    given = ("prior", "uniform", *facts.recipe.baselines)
    return {"chosen": chosen, **{name: given_mixture(facts.recipe, name, tokens) for name in given}}


def _interval(width: HalfWidth) -> dict[str, Any]:
    size = width.size
    varies = np.isfinite(size.spread)  # what is alike in all runs says nothing of the size
    return {
        "mean": size.mean.tolist(),
        "spread": np.where(varies, size.spread, 1.0).tolist(),
        "growth": np.where(varies, size.growth, 0.0).tolist(),
        "level": size.level,
        "quantile": width.quantile if np.isfinite(width.quantile) else None,
        "everywhere": width.everywhere,
        "farthest": FARTHEST,
    }


def _read(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that may stand in an element of HTML: no `<` can end it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
