"""The repository of runs: ours beside everybody's, every run once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub.constants import REPOCARD_NAME

from regmix_hf.cards.rendering import recipe_yaml
from regmix_hf.cards.runs_card import RunsCard
from regmix_hf.cards.style import png
from regmix_hf.cards.swarm import SwarmFacts
from regmix_hf.files import hash_value, read_parquet
from regmix_hf.hub import Hub, Snapshot, merge_rows, parquet_bytes, remote_table
from regmix_hf.hub.privacy import require_public_table
from regmix_hf.hub.publish import Files, Versioned
from regmix_hf.jobs.proxies import proxy_tasks
from regmix_hf.jobs.results import collect, is_failed, result_of
from regmix_hf.mixtures.table import completed, read_mixtures
from regmix_hf.recipe import RECIPE_FILE, Recipe
from regmix_hf.runs.comparable import Swarm, check_comparable, weighed
from regmix_hf.runs.experts import Experts, joined, read_experts
from regmix_hf.runs.published import check_results, read_corpus_facts
from regmix_hf.sharing.arriving_runs import published_experts
from regmix_hf.sharing.tables import json_file
from regmix_hf.study import Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import by_domain
from regmix_hf.training.measured import MEASURED_ON, asks_more
from regmix_hf.training.spec import proxy_specs

PICTURE = "effects.png"
#: Which rows of each table belong together.
_KEYS = {names.RESULTS: "run_id", names.TRAJECTORIES: "run_id", names.MIXTURES_TABLE: "mixture_id"}
_MEGABYTE = 1_000_000


@dataclass(frozen=True, eq=False)
class OwnRuns:
    """The runs of a study so far.

    Attributes:
        address: Of the study.
        recipe: That made them.
        corpus: Which they were trained on.
        tables: Rows by file.
        experts: What is known of the experts among them; `None`: there are none.
        stages: Markers of the stages that made them.
        sources: Datasets on the Hub that texts come from.
    """

    address: Address
    recipe: Recipe
    corpus: CorpusFacts
    tables: Mapping[str, pd.DataFrame]
    experts: Experts | None
    stages: Mapping[str, Any]
    sources: Collection[str]

    @classmethod
    def read(
        cls, study: Study, address: Address, stages: Mapping[str, Any], sources: Collection[str]
    ) -> OwnRuns | None:
        """Read the runs that have ended, of the proxies the recipe asks for now; `None` if there are none."""
        if not study.mixtures.exists() or not (study.corpus / names.CORPUS_FACTS).exists():
            return None
        corpus, mixtures = CorpusFacts.load(study.corpus), read_mixtures(study.mixtures)
        recipe = study.recipe
        if corpus.context_length != recipe.context_length or set(corpus.domains) != set(recipe.domains):
            return None  # of a pulled study, whose corpus nobody prepares, nothing else says so
        if "proxies" in stages:
            folder = study.proxies
            tables = {name: read_parquet(folder / name) for name in (names.RESULTS, names.TRAJECTORIES)}
        else:
            tasks = proxy_tasks(proxy_specs(study.recipe, corpus, mixtures), study.proxies)
            ended = [task for task in tasks if result_of(task) is not None]
            if all(is_failed(task) for task in ended):
                return None
            # The folder is kept, so that the next publication collects only what is new.
            folder = study.proxies / names.PUBLISHER
            collected = collect(ended, folder)
            tables = dict(zip((names.RESULTS, names.TRAJECTORIES), collected, strict=True))
        for name, table in tables.items():
            require_public_table(table, name)
        tables[names.MIXTURES_TABLE] = mixtures
        return cls(address, recipe, corpus, tables, read_experts(folder / names.EXPERTS), stages, sources)

    def beside(self, hub: Hub, snapshot: Snapshot) -> Files:
        """Files for a commit on top of `snapshot`: all runs that are there, and ours that are not.

        A run that is there stays as it is, unless it failed there and not here, or was asked more here by the
        model that it kept. The recipe is that of whoever
        added runs last.

        Raises:
            HubError: What is there are no runs, or runs of another corpus, tokenizer or scale.
        """
        there = {name: remote_table(hub, snapshot, name) for name in _KEYS}
        if (mixtures := there[names.MIXTURES_TABLE]) is not None:
            there[names.MIXTURES_TABLE] = completed(mixtures)
        self._check_comparable(hub, snapshot, there[names.RESULTS])
        ours = _with_own_names(self.tables, there[names.MIXTURES_TABLE])
        mended = _better_known(there[names.RESULTS], ours[names.RESULTS])
        merged = {
            name: _merge(there[name], ours[name], key, () if name == names.MIXTURES_TABLE else mended)
            for name, key in _KEYS.items()
        }
        results = there[names.RESULTS]
        if results is not None and merged[names.RESULTS] is results:
            foreign = ~results["run_id"].isin(set(ours[names.RESULTS]["run_id"]))
            if foreign.any():
                return {}
        changed = {name: parquet_bytes(table) for name, table in merged.items() if table is not there[name]}
        return {
            **changed,
            **self._experts(hub, snapshot, results),
            names.CORPUS_FACTS: json_file(self.corpus.tree),
            RECIPE_FILE: recipe_yaml(self.recipe).encode(),
            names.STAGES: json_file(self.stages),
            **self._card(merged),
        }

    def _check_comparable(self, hub: Hub, snapshot: Snapshot, results: pd.DataFrame | None) -> None:
        if results is None:
            return
        name = str(snapshot.repository)
        check_results(results, f"{name}: {names.RESULTS}")
        content = hub.read(snapshot, names.CORPUS_FACTS, max_bytes=5 * _MEGABYTE)
        check_comparable(
            Swarm("this study", self.corpus, self.tables[names.RESULTS]),
            Swarm(name, read_corpus_facts(content, f"{name}: {names.CORPUS_FACTS}"), results),
            allow=("scale",) if self.recipe.proxies[1:] else (),  # the rows say of which size each is
            hint="give this study another name, e.g. name=NAME-2",
        )

    def _experts(self, hub: Hub, snapshot: Snapshot, results: pd.DataFrame | None) -> Files:
        """The file of all experts, those that are there first; nothing where ours add none."""
        if self.experts is None:
            return {}
        ours, there = self.experts, published_experts(hub, snapshot, results) if results is not None else None
        if there is not None and ours.adds_nothing_to(there):
            return {}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / names.EXPERTS
            whole = ours if there is None or there.adds_nothing_to(ours) else joined([there, ours])
            whole.write(file)
            return {names.EXPERTS: file.read_bytes()}

    def _card(self, merged: Mapping[str, pd.DataFrame]) -> Files:
        swarm = SwarmFacts(merged[names.RESULTS], len(merged[names.RESULTS]))
        pictures = {}
        if len(swarm.usable) > 1:
            from regmix_hf.cards.mixture_plots import draw_effects

            pictures[PICTURE] = png(draw_effects(swarm.effects, len(swarm.usable)))
        card = RunsCard(
            address=self.address,
            recipe=self.recipe,
            corpus=self.corpus,
            mixtures=merged[names.MIXTURES_TABLE],
            results=merged[names.RESULTS],
            num_points=len(merged[names.TRAJECTORIES]),
            has_picture=PICTURE in pictures,
            sources=self.sources,
        )
        return {**pictures, REPOCARD_NAME: written(card.render)}


def written(render: Callable[[str], str]) -> Versioned:
    """The file of a card, which names its own version."""
    return lambda version: render(version).encode()


def _merge(there: pd.DataFrame | None, ours: pd.DataFrame, key: str, mended: tuple[str, ...]) -> pd.DataFrame:
    """Merge as `merge_rows`; where nothing there is foreign, keep the order of our own files."""
    merged = weighed(merge_rows(there, ours, key=key, replace=mended))
    if there is None:
        return ours
    if merged is there or len(merged) != len(ours):
        return merged
    same = merged.sort_values(list(merged.columns), ignore_index=True)
    return ours if same.equals(ours.sort_values(list(merged.columns), ignore_index=True)) else merged


def _better_known(there: pd.DataFrame | None, ours: pd.DataFrame) -> tuple[str, ...]:
    """Runs that failed there and ended here, and those that were asked more here."""
    if there is None:
        return ()
    failed = set(there.loc[there["status"] == "failed", "run_id"])
    mended = ours.loc[ours["run_id"].isin(failed) & (ours["status"] != "failed"), "run_id"]
    before = dict(zip(there["run_id"], there.get(MEASURED_ON, [None] * len(there)), strict=True))
    asked = zip(ours["run_id"], ours.get(MEASURED_ON, [None] * len(ours)), strict=True)
    return (*mended, *(run for run, words in asked if run in before and asks_more(words, before[run])))


def _with_own_names(
    tables: Mapping[str, pd.DataFrame], there: pd.DataFrame | None
) -> dict[str, pd.DataFrame]:
    """Give those of our mixtures new ids whose id belongs to another mixture there."""
    mixtures, results = tables[names.MIXTURES_TABLE], tables[names.RESULTS]
    if there is None:
        return dict(tables)
    known = dict(zip(there["mixture_id"], mixture_ids(there), strict=True))
    renamed = {
        name: f"{name}-{own}"
        for name, own in zip(mixtures["mixture_id"], mixture_ids(mixtures), strict=True)
        if known.get(name, own) != own
    }
    if not renamed:
        return dict(tables)

    def with_new_names(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(mixture_id=[renamed.get(name, name) for name in table["mixture_id"]])

    return {**tables, names.MIXTURES_TABLE: with_new_names(mixtures), names.RESULTS: with_new_names(results)}


def mixture_ids(mixtures: pd.DataFrame) -> list[str]:
    """Name every row of a table of mixtures or results by its weights."""
    rows = by_domain(mixtures, "weight").to_dict("records")
    return [hash_value({name: weight for name, weight in row.items() if weight > 0})[:8] for row in rows]
