"""What a run's losses were measured on, and which of them speak of the text that its study measures now.

A run is named by what it trains on, so it stays when a study validates on more or other text. Where its model
was kept it is asked then (`regmix_hf.training.later`); else losses on text that it was not measured on are
missing, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any

import pandas as pd

from regmix_hf.quantities import BPB, error_column
from regmix_hf.tables import prefixed
from regmix_hf.training.spec import RunSpec

#: The column of a run's row that says it: `<domain>=<start of the hash of its blocks>`, one after the other.
MEASURED_ON = "measured_on"
#: What a run's result says of the model that is beside it: the hash of its weights. In no table.
KEPT_MODEL = "kept_model"
_DIGITS = 12
_LOSSES, _SHARES = ("loss", "bpb", "loss_stderr"), ("realized", "epochs")


def measured_on(measured: Mapping[str, str]) -> str:
    """Write down what losses, and scores of tasks, are measured on.

    Args:
        measured: Hash of what each domain is validated on, and of what each task asks, see
            `RunSpec.measured`.

    >>> measured_on({"web": "0123456789abcdef", "bpb/arithmetic": "fedcba9876543210"})
    'web=0123456789ab bpb/arithmetic=fedcba987654'
    """
    return " ".join(f"{name}={sha256[:_DIGITS]}" for name, sha256 in measured.items())


def asks_more(words: object, before: object) -> bool:
    """Tell whether a run was measured on something that it was not measured on before, and on all that.

    Args:
        words: What the row says of it (`MEASURED_ON`); nothing where it says nothing.
        before: What it said before.

    >>> asks_more("web=0123 code=4567", "web=0123"), asks_more("web=89ab", "web=0123")
    (True, True)
    >>> asks_more("web=0123", "web=0123"), asks_more("code=4567", "web=0123"), asks_more(None, "web=0123")
    (False, False, False)
    """
    if not isinstance(words, str) or not isinstance(before, str):
        return False
    return _domains(before) <= _domains(words) and not set(words.split()) <= set(before.split())


def row_of_now(row: Mapping[str, Any], spec: RunSpec) -> dict[str, Any]:
    """Return a run's row over the domains of its study now: names of now, no loss on text that is none of it.

    Args:
        row: As the run left it; one of version 0.1 was measured on all that `spec` says, or it would have
            another name.
        spec: The run, as its study would train it now.
    """
    names = {"mixture_id": spec.mixture_id, "split": spec.split}
    scale = {"scale": spec.scale} if spec.scale else {}
    now = {**row, **names, **scale}
    if row["status"] == "failed":
        return {**now, **prefixed("weight", spec.weights)}
    kept = _still_measured(row, spec)
    values: dict[str, Any] = prefixed("weight", spec.weights)
    values |= {f"{name}/{d}": row.get(f"{name}/{d}", 0.0) for name in _SHARES for d in spec.weights}
    values |= {
        f"{name}/{d}": row.get(f"{name}/{d}") if d in kept else None
        for name in _LOSSES
        for d in spec.validation
    }
    scored = {column: column in kept for column in spec.scored}
    scored |= {error_column(column): is_kept for column, is_kept in scored.items()}
    values |= {column: row.get(column) if is_kept else None for column, is_kept in scored.items()}
    head = dict(takewhile(lambda item: "/" not in item[0], now.items()))
    tail = {name: value for name, value in now.items() if "/" not in name and name not in head}
    return {**head, **values, **tail, MEASURED_ON: measured_on(kept)}


def not_measured(row: Mapping[str, Any], spec: RunSpec) -> dict[str, str]:
    """What a run that ended was not measured on and would be now, as in `RunSpec.measured`."""
    kept = _still_measured(row, spec)
    return {name: sha256 for name, sha256 in spec.measured.items() if name not in kept}


def with_later(row: Mapping[str, Any], later: Iterable[Mapping[str, Any]], spec: RunSpec) -> dict[str, Any]:
    """Return a run's row with what its kept model was asked after it had ended.

    Args:
        row: As the run left it.
        later: What was measured then; of what its study measures otherwise by now nothing is taken.
        spec: The run, as its study would train it now.
    """
    whole = dict(row)
    for part in later:
        known = _still_measured(part, spec)
        columns = [f"{kind}/{name}" for kind in _LOSSES for name in known if name in spec.validation]
        columns += [c for name in known if name in spec.scored for c in (name, error_column(name))]
        whole |= {column: part.get(column) for column in columns}
        whole[MEASURED_ON] = measured_on({**_still_measured(whole, spec), **known})
    return whole


def trajectories_of_now(points: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return losses over time on what a study measures now; NaN where a run was not measured on it.

    Args:
        points: Of all runs, as they left them.
        results: Their table, of rows of now.
    """
    known = _known(results)
    columns = map(str, results.columns)
    names = [name for name in columns if name.startswith("loss/") or ("/" in name and name in known)]
    first = [name for name in map(str, points.columns) if "/" not in name]
    now = points.reindex(columns=[*first, *names])
    runs = results.drop_duplicates("run_id").set_index("run_id")  # two mixtures may be one run
    words = runs[MEASURED_ON].fillna("").map(_domains)
    of_points = now["run_id"].map(words)
    for name in names:
        word = name.removeprefix("loss/")
        now[name] = now[name].where(of_points.map(lambda known, word=word: word in known))
    return now


def without_unmeasured(results: pd.DataFrame) -> pd.DataFrame:
    """Leave out the columns of domains and tasks that no run was measured on."""
    words = _known(results)
    known = {f"{kind}/{word}" for kind in _LOSSES for word in words}
    known |= {name for word in words if "/" in word for name in (word, error_column(word))}

    def is_unknown(column: str) -> bool:
        kind, slash, _ = column.partition("/")
        return bool(slash) and kind not in ("weight", *_SHARES) and column not in known

    return results.drop(columns=[column for column in results.columns if is_unknown(str(column))])


def _known(results: pd.DataFrame) -> set[str]:
    return set().union(*results[MEASURED_ON].dropna().map(_domains))


def missing_losses(results: pd.DataFrame, measured: Mapping[str, str]) -> Iterator[str]:
    """Say for every domain and task how many runs were not measured on what it is measured by now."""
    ended = results.loc[results["status"] != "failed", MEASURED_ON].str.split()
    for word in measured_on(measured).split():
        if count := int((~ended.map(lambda words, word=word: word in words)).sum()):
            name = word.partition("=")[0]
            before, lack = f"domain {name!r} was validated on this text", "no loss on it"
            if "/" in name:
                before, lack = f"{name.removeprefix(BPB)!r} asked this", "no score of it"
            yield (
                f"{count} of {len(results)} runs were trained before {before}, and have {lack}; "
                "remove their folders to train them again"
            )


def _still_measured(row: Mapping[str, Any], spec: RunSpec) -> dict[str, str]:
    words = row.get(MEASURED_ON)
    if words is None:  # a run of version 0.1, in a table with later ones or not
        return spec.validation
    before = _words(row)
    return {name: sha256 for name, sha256 in spec.measured.items() if before.get(name) == sha256[:_DIGITS]}


def _words(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row says that it was measured on, name -> start of the hash."""
    return dict(word.split("=") for word in str(row[MEASURED_ON]).split())


def _domains(words: str) -> set[str]:
    return {word.partition("=")[0] for word in words.split()}
