"""Files of a published study that somebody else wrote: each is read and checked before it is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from regmix_hf import tables
from regmix_hf.choice import read_chosen
from regmix_hf.errors import HubError, StudyError
from regmix_hf.files import parse_yaml
from regmix_hf.hub import Expected, parse_json, read_table
from regmix_hf.recipe import RECIPE_FILE, Recipe, load_recipe
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.pretrained import under
from regmix_hf.runs.published import (
    EXPERTS_FILE,
    check_experts,
    check_results,
    check_weights,
    read_corpus_facts,
)
from regmix_hf.runs.runs import Runs
from regmix_hf.sharing.other_parts import FINAL_TABLES
from regmix_hf.sharing.tables import published_name, read_table_json
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.promises import Promises
from regmix_hf.study.rounds import rounds_in
from regmix_hf.tables import FITTED_RUNS, LEARNING_CURVE, MIXTURE, PREDICTIONS, QUALITY, SCORES, Columns

_MEGABYTE = 1_000_000
_TABLE = 200 * _MEGABYTE
#: Objects of Python take some thirty times the memory of their JSON.
_JSON_TABLE = 30 * _MEGABYTE
_MOST_ESTIMATORS = 50
_ALL_ESTIMATORS = 4_000 * _MEGABYTE

#: Lists and maps within each other that a recipe or a mixture may have.
_DEEPEST = 50

_FIT_COLUMNS = {
    names.QUALITY: QUALITY,
    names.PREDICTIONS: PREDICTIONS,
    names.LEARNING_CURVE: LEARNING_CURVE,
    names.FITTED_RUNS: FITTED_RUNS,
}
_FINAL_COLUMNS = {
    names.FINAL_RESULTS: tables.RESULTS,
    names.FINAL_TRAJECTORIES: tables.TRAJECTORIES,
    names.SCORES: SCORES,
}

RUNS_FILES = (
    Expected(RECIPE_FILE, max_bytes=_MEGABYTE),
    Expected(names.CORPUS_FACTS, max_bytes=5 * _MEGABYTE),
    Expected(names.STAGES, max_bytes=_MEGABYTE),
    *(Expected(name, max_bytes=_TABLE) for name in (names.MIXTURES_TABLE, names.RESULTS, names.TRAJECTORIES)),
    EXPERTS_FILE,
)
REGRESSOR_FILES = (
    Expected(names.FIT_SUMMARY, max_bytes=_MEGABYTE),
    Expected(names.STAGES, max_bytes=_MEGABYTE),
    *(Expected(published_name(name), max_bytes=_JSON_TABLE) for name in names.FIT_TABLES),
    *under(""),
    *(
        Expected(f"*/{file.pattern}", _ALL_ESTIMATORS, file.max_files * _MOST_ESTIMATORS, required=False)
        for file in under("")
    ),
)
MIXTURE_FILES = (
    Expected(names.CHOSEN_MIXTURE, max_bytes=_MEGABYTE),
    Expected(names.CHOSEN_TABLE, max_bytes=_TABLE),
    Expected(names.STAGES, max_bytes=_MEGABYTE),
    Expected(names.PROMISES, max_bytes=_MEGABYTE, required=False),
    *(Expected(name, max_bytes=_TABLE, required=False) for name in FINAL_TABLES),
)


@contextmanager
def distrusting(name: str) -> Iterator[None]:
    """Blame the published files for what code raises that is written for files of one's own.

    Raises:
        HubError: Something was raised in the block that says nothing of the file at fault.
    """
    try:
        yield
    except StudyError as error:
        raise HubError(
            f"{name}: its files do not make a study: {error.message}", "ask its publisher"
        ) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise HubError(
            f"{name} holds files that do not make a study: {what}.", "ask its publisher"
        ) from error


def check_runs(folder: Path, name: str) -> tuple[Recipe, CorpusFacts]:
    """Check fetched files of a repository of runs; return the recipe and the corpus they belong to.

    Raises:
        RegmixError: One of them is not what it should be, or they do not belong together.
    """
    _load_yaml(folder / RECIPE_FILE, name)
    recipe = load_recipe(folder / RECIPE_FILE)
    corpus = read_corpus_facts((folder / names.CORPUS_FACTS).read_bytes(), f"{name}: {names.CORPUS_FACTS}")
    if set(corpus.domains) != set(recipe.domains):
        raise HubError(f"{name}: {names.CORPUS_FACTS} and {RECIPE_FILE} name different domains.")
    trained = {domain for domain, facts in corpus.domains.items() if facts.train}
    if trained != set(recipe.training_domains):
        raise HubError(f"{name}: {names.CORPUS_FACTS} and {RECIPE_FILE} train on different domains.")
    results = _table(folder, names.RESULTS, name)
    check_results(results, f"{name}: {names.RESULTS}")
    _require_unique(results, "run_id", f"{name}: {names.RESULTS}")
    experts = check_experts(folder, results, name)
    Runs.from_results(results, f"{name}: {names.RESULTS}", experts=experts)
    mixtures = _table(folder, names.MIXTURES_TABLE, name)
    _require(mixtures, tables.MIXTURES, f"{name}: {names.MIXTURES_TABLE}")
    _require_unique(mixtures, "mixture_id", f"{name}: {names.MIXTURES_TABLE}")
    check_weights(mixtures, f"{name}: {names.MIXTURES_TABLE}")
    points = _table(folder, names.TRAJECTORIES, name)
    _require(points, tables.TRAJECTORIES, f"{name}: {names.TRAJECTORIES}")
    if unknown := sorted(set(results["mixture_id"]) - set(mixtures["mixture_id"])):
        raise HubError(
            f"{name}: {names.RESULTS} names the mixture {unknown[0]!r}, "
            f"which {names.MIXTURES_TABLE} does not."
        )
    return recipe, corpus


def check_regressors(folder: Path, name: str) -> Mapping[str, Path]:
    """Load every fetched regressor and check the tables of the fit; return the folder of each family.

    Raises:
        RegmixError: A regressor does not match its declared shape, or a table is none.
    """
    summary = parse_json((folder / names.FIT_SUMMARY).read_bytes(), f"{name}: {names.FIT_SUMMARY}")
    wanted = {"target", "target_value", "estimator", "estimators", "judged_on", "reason", "outlook"}
    if not isinstance(summary, dict) or not wanted <= summary.keys():
        raise HubError(f"{name}: {names.FIT_SUMMARY} lacks {sorted(wanted - set(summary))}.")
    selected, estimators = summary["estimator"], summary["estimators"]
    if not isinstance(estimators, list) or selected not in estimators or len(estimators) > _MOST_ESTIMATORS:
        raise HubError(f"{name}: {names.FIT_SUMMARY} names {selected!r} of the estimators {estimators!r}.")
    folders = {}
    for estimator in estimators:
        place = folder if estimator == selected else folder / _plain_name(estimator, name)
        parse_json((place / "config.json").read_bytes(), f"{name}: {estimator}/config.json")
        regressor = MixtureRegressor.from_pretrained(place)
        if regressor.estimator != estimator:
            raise HubError(f"{name}: {regressor.estimator!r} is in the place of {estimator!r}.")
        folders[estimator] = place
    for table, columns in _FIT_COLUMNS.items():
        _require(read_fit_table(folder, table, name), columns, f"{name}: {published_name(table)}")
    return folders


def read_fit_table(folder: Path, table: str, name: str) -> pd.DataFrame:
    """Read one of the tables of a fit.

    Raises:
        HubError: It is no table.
    """
    file = published_name(table)
    return read_table_json((folder / file).read_bytes(), f"{name}: {file}")


def check_mixture(folder: Path, recipe: Recipe, name: str) -> None:
    """Check fetched files of a chosen mixture.

    Raises:
        RegmixError: The weights are no mixture over the recipe's domains, or a table is none.
    """
    record = _load_yaml(folder / names.CHOSEN_MIXTURE, name)
    wanted = {"weights", "prior", "estimator", "reason", "predicted", "warnings"}
    if not isinstance(record, dict) or not wanted <= record.keys():
        raise HubError(f"{name}: {names.CHOSEN_MIXTURE} lacks some of {sorted(wanted)}.")
    read_chosen(folder / names.CHOSEN_MIXTURE, recipe.training_domains)
    rounds_in(record, folder / names.CHOSEN_MIXTURE)
    table = _table(folder, names.CHOSEN_TABLE, name)
    _require(table, MIXTURE, f"{name}: {names.CHOSEN_TABLE}")
    _require_unique(table, "domain", f"{name}: {names.CHOSEN_TABLE}")
    if (folder / names.PROMISES).exists():
        Promises.load(folder / names.PROMISES)
    if (folder / names.FINAL_RESULTS).exists():
        check_results(_table(folder, names.FINAL_RESULTS, name), f"{name}: {names.FINAL_RESULTS}")
    for final, columns in _FINAL_COLUMNS.items():
        if (folder / final).exists():
            _require(_table(folder, final, name), columns, f"{name}: {final}")


def read_stages(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Read the markers of the stages that the publisher had finished.

    Raises:
        HubError: They are none.
    """
    tree = parse_json((folder / names.STAGES).read_bytes(), f"{name}: {names.STAGES}")
    for verb, marker in tree.items() if isinstance(tree, dict) else [("", None)]:
        fingerprint = marker.get("fingerprint") if isinstance(marker, dict) else None
        if not isinstance(fingerprint, dict) or len(json.dumps(marker)) > 100_000:
            raise HubError(f"{name}: {names.STAGES} says nothing of what {verb!r} was finished with.")
    return dict(tree)


def _load_yaml(file: Path, name: str) -> Any:
    """Read YAML without aliases: with them a few lines can stand for more than the memory holds.

    Its depth is counted while it is read, because a parser takes the square of the depth or more.
    """
    yaml, depth = YAML(typ="safe", pure=True), 0
    try:
        text = file.read_text(encoding="utf-8", errors="strict")
        for event in yaml.parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > _DEEPEST:
                raise HubError(f"{name}: {file.name} is nested more than {_DEEPEST} deep, as no recipe is.")
            if isinstance(event, AliasEvent):
                raise HubError(f"{name}: {file.name} holds aliases, which are not read from the Hub.")
        return parse_yaml(text)
    except (YAMLError, RecursionError, ValueError) as error:
        raise HubError(f"{name}: {file.name} is no YAML: {str(error)[:200]}") from None


def _table(folder: Path, file: str, name: str) -> pd.DataFrame:
    return read_table(folder / file, name=f"{name}: {file}")


def _require(table: pd.DataFrame, columns: Columns, name: str) -> None:
    if fault := columns.fault(table):
        raise HubError(f"{name} {fault}.")


def _require_unique(table: pd.DataFrame, key: str, name: str) -> None:
    repeated = table.loc[table[key].duplicated(), key]
    if len(repeated):
        raise HubError(f"{name}: {key} {repeated.iloc[0]!r} has more than one row, which do not agree.")


def _plain_name(estimator: object, name: str) -> str:
    if not isinstance(estimator, str) or not estimator.isidentifier():
        raise HubError(f"{name}: {estimator!r} is no estimator.")
    return estimator
