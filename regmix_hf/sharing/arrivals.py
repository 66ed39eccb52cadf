"""The files of a published study on their way into a folder: fetched, checked, tried, and only then moved."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.pictures import PICTURES
from regmix_hf.cards.rendering import as_yaml
from regmix_hf.cards.report import render
from regmix_hf.files import read_parquet, write_json, write_parquet, write_text
from regmix_hf.hub import Expected, Hub, Repository, Snapshot, fetch
from regmix_hf.mixtures.final import final_names
from regmix_hf.recipe import RECIPE_FILE, Recipe
from regmix_hf.runs.experts import read_experts
from regmix_hf.sharing.arriving_runs import write_run
from regmix_hf.sharing.incoming import (
    MIXTURE_FILES,
    REGRESSOR_FILES,
    RUNS_FILES,
    check_mixture,
    check_regressors,
    check_runs,
    read_fit_table,
    read_stages,
)
from regmix_hf.sharing.incoming_model import DeclaredModel
from regmix_hf.sharing.other_parts import FINAL_TABLES
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.spec import run_seed


@dataclass
class Arrivals:
    """Fetched and checked files.

    Attributes:
        staging: Where they are.
        address: Of the study.
        recipe: Of the study, as it was published.
        corpus: What is known of its text.
        stages: Markers of the stages that the publisher had finished.
        regressors: Folder of each family of regressors.
        has_mixture: Whether the mixture came.
        models: Final models by mixture: the run of each.
    """

    staging: Path
    address: Address
    recipe: Recipe
    corpus: CorpusFacts
    stages: Mapping[str, Mapping[str, Any]]
    regressors: Mapping[str, Path]
    has_mixture: bool
    models: dict[str, dict[Hashable, Any]] = field(default_factory=dict)

    @classmethod
    def fetch(
        cls, hub: Hub, found: Mapping[Repository, Snapshot], staging: Path, address: Address
    ) -> Arrivals:
        """Fetch and check all files but those of models.

        Raises:
            RegmixError: A file is missing, too large, or not what it should be.
        """
        expected = {
            address.runs: RUNS_FILES,
            address.regressor: REGRESSOR_FILES,
            address.mixture: MIXTURE_FILES,
        }
        places = {one: _fetch(hub, snapshot, expected[one], staging) for one, snapshot in found.items()}
        stages: dict[str, dict[str, Any]] = {}
        for repository, place in places.items():
            stages |= read_stages(place, str(repository))
        recipe, corpus = check_runs(places[address.runs], str(address.runs))
        regressors: Mapping[str, Path] = {}
        if address.regressor in places:
            regressors = check_regressors(places[address.regressor], str(address.regressor))
        if address.mixture in places:
            check_mixture(places[address.mixture], recipe, str(address.mixture))
        return cls(staging, address, recipe, corpus, stages, regressors, address.mixture in places)

    @property
    def final_mixtures(self) -> list[str]:
        """Names of the mixtures that there may be final models of."""
        return final_names(self.recipe, self._place_of(self.address.runs) / names.MIXTURES_TABLE)

    def fetch_models(self, hub: Hub, found: Mapping[Repository, Snapshot]) -> dict[Repository, Snapshot]:
        """Fetch and check final models, as far as the table of final results names them.

        Returns:
            Those of `found` that came.

        Raises:
            RegmixError: As `fetch`; or one is not what the recipe declares.
        """
        results = self._place_of(self.address.mixture) / names.FINAL_RESULTS
        if not found or not results.exists():
            return {}
        declared = DeclaredModel(self.recipe, self.corpus)
        seed = run_seed(self.recipe.seed, 0)
        first = {
            str(row["mixture_id"]): row
            for row in read_parquet(results).to_dict("records")
            if row["seed"] == seed and row["status"] == "ok"
        }
        mixtures = {self.address.model(mixture): mixture for mixture in first}
        came = {}
        for repository in (one for one in found if one in mixtures):
            mixture = mixtures[repository]
            place = _fetch(hub, found[repository], declared.files, self.staging)
            declared.check(place, str(first[mixture]["run_id"]), str(repository))
            self.models[mixture] = first[mixture]
            came[repository] = found[repository]
        return came

    def make(self, stages: Sequence[Stage], folder: Path) -> None:
        """Make the study beside the folder it is for, and a report of it: what comes in can be reported of.

        Raises:
            Exception: What code raises that is written for files of one's own.
        """
        trial = self._trial
        shutil.rmtree(trial.root, ignore_errors=True)
        self._make(trial, stages)
        write_text(trial.root / RECIPE_FILE, _with_output_dir(self._study(folder).recipe))
        facts = StudyFacts.read(trial)
        render(facts, {})
        for draw in PICTURES.values():
            draw(facts)

    def place(self, stages: Sequence[Stage], folder: Path) -> Study:
        """Move what was made to where a study has it; the markers of stages go first and come last.

        Other stages, of an earlier pull, stay: their markers say whether they still fit.
        """
        trial, study = self._trial, self._study(folder)
        markers = {trial.marker(stage) for stage in stages}
        for marker in markers:
            if marker.exists():
                (study.root / marker.relative_to(trial.root)).unlink(missing_ok=True)
        for mixture in self.models:
            shutil.rmtree(study.models / mixture, ignore_errors=True)  # of an earlier version
        files = [path for path in trial.root.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: (path in markers, path)):
            _move(path, study.root / path.relative_to(trial.root))
        return study

    @property
    def _trial(self) -> Study:
        return self._study(self.staging / "study")

    def _study(self, folder: Path) -> Study:
        return Study(self.recipe.model_copy(update={"output_dir": folder.resolve()}))

    def _make(self, study: Study, stages: Sequence[Stage]) -> None:
        """Give a study all its files."""
        study.sign()
        self._place_runs(study)
        if self.regressors:
            self._place_fit(study)
        if self.has_mixture:
            self._place_mixture(study)
        for mixture, row in self.models.items():
            self._place_model(study, mixture, row)
        for stage in stages:
            if stage.verb in self.stages:
                write_json(study.marker(stage), {**self.stages[stage.verb], "outputs": study.written(stage)})

    def _place_runs(self, study: Study) -> None:
        place = self._place_of(self.address.runs)
        _move(place / names.CORPUS_FACTS, study.corpus / names.CORPUS_FACTS)
        _move(place / names.MIXTURES_TABLE, study.mixtures)
        results, trajectories = (read_parquet(place / name) for name in (names.RESULTS, names.TRAJECTORIES))
        points = dict(tuple(trajectories.groupby("run_id", sort=False)))
        experts = read_experts(place / names.EXPERTS)
        for row in results.to_dict("records"):
            run_id, run = str(row["run_id"]), study.proxies / str(row["run_id"])
            # With these, `proxies` trains no run again; those that failed it tries again.
            if row["status"] != "failed" and run_id in points and re.fullmatch("[0-9a-f]{16}", run_id):
                write_run(run, row, points[run_id], experts)
        if experts is not None:
            _move(place / names.EXPERTS, study.proxies / names.EXPERTS)
        for name in (names.TRAJECTORIES, names.RESULTS):
            _move(place / name, study.proxies / name)

    def _place_fit(self, study: Study) -> None:
        place, name = self._place_of(self.address.regressor), str(self.address.regressor)
        for estimator, source in self.regressors.items():
            for file in sorted(path for path in source.iterdir() if path.is_file()):
                if file.name == "config.json" or file.suffix in (".safetensors", ".txt"):
                    _move(file, study.regression / estimator / file.name)
        for table in names.FIT_TABLES:
            write_parquet(study.regression / table, read_fit_table(place, table, name))
        _move(place / names.FIT_SUMMARY, study.regression / names.FIT_SUMMARY)

    def _place_mixture(self, study: Study) -> None:
        place = self._place_of(self.address.mixture)
        _move(place / names.CHOSEN_TABLE, study.mixture.with_suffix(".parquet"))
        _move(place / names.CHOSEN_MIXTURE, study.mixture)
        for name, target in FINAL_TABLES.items():
            if (place / name).exists():
                _move(place / name, study.root / target)
        if (place / names.PROMISES).exists():
            _move(place / names.PROMISES, study.evaluation / names.PROMISES)

    def _place_model(self, study: Study, mixture: str, row: Mapping[Hashable, Any]) -> None:
        source = self._place_of(self.address.model(mixture))
        target = study.models / mixture
        for file in sorted(path for path in source.iterdir() if path.is_file() and path.name != names.RESULT):
            _move(file, target / file.name)
        points = read_parquet(study.root / FINAL_TABLES[names.FINAL_TRAJECTORIES])
        write_run(target, row, points[points["run_id"] == row["run_id"]])

    def _place_of(self, repository: Repository) -> Path:
        return _place_of(self.staging, repository)


def _place_of(staging: Path, repository: Repository) -> Path:
    return staging / "repositories" / repository.id.split("/")[1]


def _fetch(hub: Hub, snapshot: Snapshot, expected: Sequence[Expected], staging: Path) -> Path:
    place = _place_of(staging, snapshot.repository)
    fetch(hub, snapshot, expected, place, via=staging / ".arriving" / place.name)
    return place


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def _with_output_dir(recipe: Recipe) -> str:
    """The recipe as it was published, and where its study lies now; nothing of where to publish."""
    tree = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"hub"})
    return as_yaml(json.dumps({**tree, "output_dir": str(recipe.output_dir)}))
