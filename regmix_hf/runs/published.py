"""Runs that others published, read as data: nothing in them is taken for granted."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from regmix_hf.errors import HubError, StudyError
from regmix_hf.hub import Expected, Hub, Reference, fetch, parse_json, read_table
from regmix_hf.mixtures.mixture import is_no_mixture, what_is_wrong
from regmix_hf.runs.comparable import Swarm
from regmix_hf.runs.experts import Experts, read_experts
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import by_domain

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,95}")
#: Of a published table, whose names are those of its makers: `loss/arc_challenge:rc::olmes`.
_COLUMN = re.compile(r"\w[\w.-]*/\w[\w .:+,()%=@/-]{0,119}")
_WRITE = "write letters, digits, blanks and any of _ . : + - , ( ) % = @ /"
#: `<prefix>/<domain>`, `bpb/<task>`, `<task>/<metric>` and what lm-eval puts behind a metric.
_NUMBERS = re.compile(r"[A-Za-z0-9][\w.+-]{0,95}/[A-Za-z0-9][\w.+@-]{0,95}(,[\w.+-]{1,95})?")
_OF_DOMAINS = ("weight", "realized", "epochs", "loss", "loss_stderr")
_MEGABYTE = 1_000_000
#: Of a repository of runs, where there are experts among them.
EXPERTS_FILE = Expected(names.EXPERTS, max_bytes=2_000 * _MEGABYTE, required=False)


def load_published(text: str, *, cache: Path | None = None, hub: Hub | None = None) -> Swarm:
    """Read the runs that a repository holds at a revision.

    Args:
        text: `NAMESPACE/NAME[@REVISION]`.
        cache: Folder to keep the files in. What is there is not loaded again. Default: nothing is kept.
        hub: The connection.

    Raises:
        HubError: There is no such repository or revision, or what it holds is no table of runs.
    """
    if cache is not None and (cache / names.RESULTS).is_file():
        return _read(cache, text)
    reference, hub = Reference.parse(text, "dataset"), hub or Hub()
    snapshot = hub.snapshot(reference.repository, reference.revision)
    expected = [
        Expected(names.CORPUS_FACTS, max_bytes=5 * _MEGABYTE, required=False),
        Expected(names.RESULTS, max_bytes=200 * _MEGABYTE),
        EXPERTS_FILE,
    ]
    with tempfile.TemporaryDirectory() as temporary:
        fetch(hub, snapshot, expected, Path(temporary))
        runs = _read(Path(temporary), text)
    if cache is not None:
        fetch(hub, snapshot, expected, cache)  # only now: what is kept has been read once
    return runs


def check_results(results: pd.DataFrame, name: str) -> None:
    """Check a study's table of results that came from elsewhere, as far as `Runs.from_results` does not.

    Raises:
        HubError: A name of a domain is none, a column holds what it cannot, or a row's weights are none.
    """
    _check_texts(results, ("run_id", "mixture_id", "status", "scale"), name)
    for column in ("seed", "num_train_tokens"):
        if column not in results or not pd.api.types.is_integer_dtype(results[column]):
            raise HubError(f"{name}: the column {column!r} is missing or holds no whole numbers.")
    for column in results.columns:
        prefix, slash, name = str(column).partition("/")
        if not slash:
            continue
        is_domain = prefix not in _OF_DOMAINS or _DOMAIN.fullmatch(name) is not None
        if not is_domain or _NUMBERS.fullmatch(str(column)) is None:
            raise HubError(f"{name}: {column!r} is no column of a table of results.")
        if not pd.api.types.is_numeric_dtype(results[column]):
            raise HubError(f"{name}: the column {column!r} holds no numbers.")
    check_weights(results, name)


def check_table(results: pd.DataFrame, name: str) -> None:
    """Check runs that were read from tables and published: of these nobody says a size, a seed or a text.

    Raises:
        HubError: As `check_results`.
    """
    _check_texts(results, ("run_id", "mixture_id", "status"), name)
    for column in (column for column in results.columns if "/" in column):
        if _COLUMN.fullmatch(column) is None or not pd.api.types.is_numeric_dtype(results[column]):
            raise HubError(f"{name}: {column!r} is no column of numbers with a name that is read.", _WRITE)
    check_weights(results, name)


def _check_texts(results: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    for column in columns:
        if column not in results or not pd.api.types.is_string_dtype(results[column]):
            raise HubError(f"{name}: the column {column!r} is missing or holds no text.")


def check_weights(table: pd.DataFrame, name: str) -> None:
    """Check that every row's `weight/<domain>` columns are a mixture.

    Raises:
        HubError: There are none, or one is negative, infinite or NaN, or they do not sum to 1.
    """
    weights = by_domain(table, "weight")
    if weights.empty:
        raise HubError(f"{name} has no row, or no column weight/<domain>.")
    wrong = is_no_mixture(weights)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise HubError(f"{name}, row {row}: {what_is_wrong(weights.iloc[row])}.")


def check_experts(folder: Path, results: pd.DataFrame, name: str) -> Experts | None:
    """Read what came with a table of results about its experts; `None`: nothing.

    Raises:
        HubError: It is damaged, or speaks of other runs than the table.
    """
    try:
        experts = read_experts(folder / names.EXPERTS)
    except StudyError as error:
        raise HubError(f"{name}: {names.EXPERTS}: {error.message}", "ask its publisher") from None
    if experts is None:
        return None
    rows = results.drop_duplicates("run_id").set_index("run_id")
    of_table = by_domain(rows, "weight").reindex(experts.weights.index)
    given = experts.weights.reindex(columns=of_table.columns, fill_value=0.0)
    unknown = experts.weights.columns.difference(list(of_table.columns))
    if len(unknown) or not np.allclose(given, of_table):  # NaN where a run is none of the table
        raise HubError(f"{name}: {names.EXPERTS} speaks of other runs than {names.RESULTS}.")
    return experts


def read_corpus_facts(content: bytes, name: str) -> CorpusFacts:
    """Read a `corpus.json` that came from elsewhere.

    Raises:
        HubError: It is none, or counts nothing.
    """
    try:
        facts = CorpusFacts.model_validate(parse_json(content, name))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise HubError(f"{name}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}.") from None
    splits = [split for domain in facts.domains.values() for split in (domain.train, domain.validation)]
    if not splits or any(split and min(split.num_tokens, split.num_bytes) <= 0 for split in splits):
        raise HubError(f"{name}: every split of a domain needs tokens and bytes.")
    for domain in facts.domains:
        if _DOMAIN.fullmatch(domain) is None:
            raise HubError(f"{name}: {domain!r} is no name of a domain.")
    return facts


def _read(folder: Path, origin: str) -> Swarm:
    results, corpus = read_table(folder / names.RESULTS, name=f"{origin}: {names.RESULTS}"), None
    if (file := folder / names.CORPUS_FACTS).exists():
        check_results(results, f"{origin}: {names.RESULTS}")
        corpus = read_corpus_facts(file.read_bytes(), f"{origin}: {names.CORPUS_FACTS}")
    else:
        check_table(results, f"{origin}: {names.RESULTS}")
    return Swarm(origin, corpus, results, check_experts(folder, results, origin))
