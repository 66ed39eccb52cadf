"""Publish a fit on tables: its runs, its regressors, and the mixture that was chosen with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from huggingface_hub.constants import REPOCARD_NAME

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.style import png
from regmix_hf.cards.swarm import SwarmFacts
from regmix_hf.cards.table_runs_card import TableRunsCard
from regmix_hf.errors import HubError, RecipeError, did_you_mean
from regmix_hf.files import hash_value, read_parquet
from regmix_hf.hub import Hub, Publication, Snapshot, parquet_bytes
from regmix_hf.hub.privacy import require_public_table
from regmix_hf.hub.publish import Files
from regmix_hf.progress import Progress, Silent
from regmix_hf.readable import count_of
from regmix_hf.recipe.schema import PARTS
from regmix_hf.runs.published import check_table
from regmix_hf.sharing.exporting import mixture_of_fit
from regmix_hf.sharing.other_parts import mixture_publication, regressor_publication
from regmix_hf.sharing.push import Push, publish_all, would_publish
from regmix_hf.sharing.runs_part import PICTURE, mixture_ids, written
from regmix_hf.study import State, names
from regmix_hf.study.address import Address
from regmix_hf.study.table_fit import TableFit
from regmix_hf.tables import FITTED_RUNS


@dataclass(frozen=True)
class Terms:
    """What tables do not say, and whoever publishes them has to.

    Attributes:
        license: Of what is published, as the Hub calls it.
        origin: Where the runs come from, in words or as an address.
        private: Whether to make private repositories.
    """

    license: str
    origin: str
    private: bool = False


def push_fit(
    fit: TableFit,
    address: Address,
    terms: Terms,
    *,
    only: Collection[str] = PARTS,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Push:
    """Publish the runs, the regressors and, where one is chosen with this fit, the mixture.

    Args:
        fit: The fit.
        address: Where to.
        terms: What the tables do not say.
        only: Parts to publish.
        dry_run: Only look what would change.
        progress: Told what is left out.

    Raises:
        HubError: Not logged in, not permitted, a name taken by a study, a column whose name nobody reads.
        RecipeError: No part has a name in `only`.
    """
    for name in only:
        if name not in PARTS:
            raise RecipeError(f"--only {name!r} is no part of a fit on tables; {did_you_mean(name, PARTS)}")
    hub, facts = Hub(progress=progress or Silent()), StudyFacts.of_fit(fit)
    asked = replace(facts.asked, name=address.name, license=terms.license, private=terms.private)
    facts = replace(facts, asked=asked)
    assert facts.regression is not None
    publications: list[Publication] = []
    state = fit.standings()["choose"]
    if "mixture" in only and facts.choice is not None and state.state is State.DONE:
        mixture = mixture_of_fit(fit.root)
        publications.append(mixture_publication(fit, address, facts, facts.choice, {}, mixture))
    elif "mixture" in only and state.state is State.STALE:
        hub.progress.note(f"mixture: `choose` is stale, because {state.reason}; left out")
    if "regressor" in only:
        publications.append(regressor_publication(fit, address, facts, facts.regression, {}))
    if "runs" in only:
        publications.append(_runs_publication(fit, address, facts, terms))
    if not publications:
        raise HubError(f"{fit.root} holds nothing to publish of {', '.join(only)}.", "run `regmix choose`")
    beside = [address.mixture, address.regressor, address.runs]
    if dry_run:
        return would_publish(hub, publications, beside)
    return publish_all(hub, publications, beside, address)


def _runs_publication(fit: TableFit, address: Address, facts: StudyFacts, terms: Terms) -> Publication:
    results = _results(_all_runs(fit.regression))
    for name in (names.RESULTS, names.MIXTURES_TABLE):
        require_public_table(results, name)
    check_table(results, "the table of runs")
    swarm = SwarmFacts(results, len(results), facts.target.quantities)
    card = TableRunsCard(address, facts.asked, terms.origin, results, has_picture=len(results) > 1)

    def files(snapshot: Snapshot) -> Files:
        from regmix_hf.cards.mixture_plots import draw_effects

        if names.CORPUS_FACTS in snapshot.files:
            raise HubError(f"{address.runs.id} holds the runs of a study.", "give another --name")
        picture = {PICTURE: png(draw_effects(swarm.effects, len(results)))} if card.has_picture else {}
        return {
            names.RESULTS: parquet_bytes(results),
            names.MIXTURES_TABLE: parquet_bytes(_mixtures(results)),
            **picture,
            REPOCARD_NAME: written(card.render),
        }

    message = f"Publish {count_of(len(results), 'run')} read from tables"
    return Publication(address.runs, files, message, terms.private, ("*.parquet", "*.png"))


def _all_runs(folder: Path) -> pd.DataFrame:
    """All runs that a fit was made on: those it is judged by first, then those of other sizes."""
    files = [folder / name for name in (names.FITTED_RUNS, names.RUNS_BESIDE)]
    tables = [read_parquet(file, FITTED_RUNS) for file in files if file.exists()]
    return pd.concat(tables, ignore_index=True)


def _results(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of a fit as a table of results: ids that no other table has, names as they were."""
    numbers = runs.drop(columns=["run_id", "split"])
    rows: Sequence[dict[str, object]] = [
        {"name": str(name), **{str(key): value for key, value in row.items() if value == value}}
        for name, row in zip(runs["run_id"], numbers.to_dict("records"), strict=True)
    ]
    return pd.DataFrame(
        {
            "run_id": [hash_value(row)[:16] for row in rows],
            "name": [row["name"] for row in rows],
            "mixture_id": mixture_ids(runs),
            "split": runs["split"],
            "status": "ok",
        }
    ).join(numbers)


def _mixtures(results: pd.DataFrame) -> pd.DataFrame:
    weights = [column for column in results.columns if column.startswith("weight/")]
    return results[["mixture_id", "split", *weights]].drop_duplicates("mixture_id")
