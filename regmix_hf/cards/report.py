"""The report of a study or of a fit on tables: Markdown and pictures, the same bytes for the same files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.pictures import PICTURES, draw_pictures, error_unit, measured_change, target_words
from regmix_hf.cards.rendering import recipe_yaml, render_template, share
from regmix_hf.cards.summary import Summary, scores_of, summarise
from regmix_hf.files import atomic_path, write_text
from regmix_hf.recipe.schema import CHOSEN
from regmix_hf.regression.agreement import DO_NOT_TELL, by_pair
from regmix_hf.regression.carrying import WITHIN_NOISE
from regmix_hf.study import names
from regmix_hf.study.promises import Promise

TEMPLATE = "report.md.jinja"
#: Domains that are named where the mixture is told in one line.
_MOST_NAMED = 4


def write_report(facts: StudyFacts, folder: Path, explorer: str | None = None) -> Path:
    """Draw the pictures and write `README.md` last; parts that the study does not have yet are left out.

    Args:
        facts: What the study found.
        folder: Where the report goes; made when missing.
        explorer: The page to explore the mixture with, where there is one.

    Returns:
        The path of `README.md`.
    """
    pictures = draw_pictures(facts)
    drawn = {name: f"{name}.png" for name in PICTURES if name in pictures}
    for name in PICTURES.keys() - drawn.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, file in drawn.items():
        with atomic_path(folder / file) as temporary:
            temporary.write_bytes(pictures[name])
    if explorer is None:
        (folder / names.EXPLORER).unlink(missing_ok=True)
    else:
        write_text(folder / names.EXPLORER, explorer)
    write_text(folder / names.PAGE, render(facts, drawn, has_explorer=explorer is not None))
    return folder / names.PAGE


def render(facts: StudyFacts, pictures: Mapping[str, str], *, has_explorer: bool = False) -> str:
    """Write the report's Markdown, with these files of pictures and perhaps `names.EXPLORER` beside it."""
    summary = summarise(facts)
    scores = scores_of(facts)
    pairs = by_pair(facts.regression.agreement if facts.regression else ())
    return render_template(
        TEMPLATE,
        facts=facts,
        asked=facts.asked,
        recipe=facts.recipe,
        choice=facts.choice,
        promises=facts.promises,
        explorer=names.EXPLORER if has_explorer else None,
        summary=summary,
        target_words=target_words(facts),
        target=facts.target.quantity,
        error_unit=error_unit(facts.target.quantity),
        **_carries(facts),
        pictures={**dict.fromkeys(PICTURES), **pictures},
        largest=_largest(summary),
        verdict=facts.verdict,
        coverage=f"{100 * facts.choice.coverage:.0f} %" if facts.choice else None,
        quality=facts.regression.quality.to_dict("records") if facts.regression else [],
        best_predicted=facts.regression.promises if facts.regression else {},
        measured=measured_change(facts) is not None,
        chosen_promise=_of_chosen(facts),
        agreement=pairs,
        does_not_tell=[pair[0] for pair in pairs if pair[0].word == DO_NOT_TELL],  # the target comes first
        lost_models=_lost_models(facts),
        scores=scores,
        mixture_names=list(dict.fromkeys(name for row in scores for name in row.values)),
        environments=_environments(facts),
        recipe_yaml=recipe_yaml(facts.recipe) if facts.recipe else None,
        again=[shlex.join(["regmix", *words]) for words in facts.asked.again],
    )


def _of_chosen(facts: StudyFacts) -> Promise | None:
    """What final models on the chosen mixture measured beside what was promised of them; `None`: not yet."""
    known = facts.promises.mixtures if facts.promises and facts.promises.same_size else ()
    return next((one for one in known if one.mixture == CHOSEN), None)


def _carries(facts: StudyFacts) -> dict[str, Any]:
    """How far mixtures lie apart on each target, where noise was measured."""
    summary = facts.regression.summary if facts.regression else {}
    rows = [(one, one.signal) for one in (facts.regression.carries if facts.regression else ())]
    return {
        "carries": [one for one, signal in rows if signal is not None],
        "within_noise": [one.target for one, signal in rows if signal is not None and signal < WITHIN_NOISE],
        "dropped": list(summary.get("dropped_targets", ())),
    }


def _largest(summary: Summary) -> str:
    """The domains with the most weight, in words."""
    rows = [row for row in summary.mixture if row["chosen"] > 0]
    shares = ", ".join(f"{share(row['chosen'])} `{row['domain']}`" for row in rows[:_MOST_NAMED])
    others = len(rows) - _MOST_NAMED
    return f"{shares} and {others} more" if others > 0 else shares


def _lost_models(facts: StudyFacts) -> list[str]:
    if facts.final is None:
        return []
    results = facts.final.results
    return [str(name) for name in results.loc[results["status"] != "ok", "mixture_id"]]


def _environments(facts: StudyFacts) -> list[str]:
    """On what devices and with which versions the runs of a study were made."""
    lines = []
    for name, part in (("Proxies", facts.swarm), ("Final models", facts.final)):
        if part is not None and facts.recipe is not None:
            pairs = part.results[["device", "versions"]].dropna().drop_duplicates()
            lines += [f"{name}: {device}; {versions}" for device, versions in pairs.itertuples(index=False)]
    return lines
