"""The runs of a study: its own, and those of others that its recipe names, where they are comparable."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from regmix_hf.errors import HubError
from regmix_hf.hub import Hub
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe import SharedRuns
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.files import read_parquet
from regmix_hf.study.folder import Study
from regmix_hf.tables import FITTED_RUNS
from regmix_hf.runs.published import PublishedRuns, load_published
from regmix_hf.runs.runs import Runs


def pooled_runs(study: Study, progress: Progress | None = None) -> Runs:
    """Read the study's own runs, if it has any, and those that its recipe names, each run once.

    Raises:
        StudyError: The study has none, and the recipe names none.
        HubError: Runs cannot be had, or come from another corpus, tokenizer or scale.
        DataError: A table of results cannot be used.
    """
    own, shared = study.proxies / "results.parquet", study.recipe.runs
    if shared is None:
        return Runs.from_results(read_parquet(study.require(own, "proxies"), FITTED_RUNS), str(own))
    progress, parts = progress or Silent(), []
    facts = CorpusFacts.load(study.corpus) if (study.corpus / "corpus.json").exists() else None
    if own.exists():
        parts.append(PublishedRuns(str(own), read_parquet(own, FITTED_RUNS), facts))
    for text in shared.repositories:
        name, _, revision = text.partition("@")
        cache = study.regression / "shared" / name.replace("/", "--") / revision
        parts.append(load_published(text, cache=cache, hub=Hub(progress=progress)))
    _check_comparable(parts, facts, shared)
    results = _pool([part.results for part in parts])
    if len(parts) > 1:
        sources = ", ".join(f"{len(part.results)} of {part.origin}" for part in parts)
        progress.note(f"{len(results)} runs from {len(parts)} sources: {sources}")
    return Runs.from_results(results, " and ".join(part.origin for part in parts))


def _pool(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables of results below each other, each run once; a domain that a table does not have weighs 0."""
    results = pd.concat(tables, ignore_index=True)
    results = results.sort_values("status", key=lambda status: status != "ok", kind="stable")
    results = results.drop_duplicates("run_id").sort_index(ignore_index=True)  # a run that ended well, if any
    weights = [column for column in results.columns if column.startswith("weight/")]
    return results.assign(**{column: results[column].fillna(0.0) for column in weights})


def _check_comparable(parts: Sequence[PublishedRuns], own: CorpusFacts | None, shared: SharedRuns) -> None:
    """Refuse runs that differ from the first ones in what decides their losses, unless that is allowed.

    Args:
        parts: Own runs, if there are any, and others'.
        own: The study's corpus, if it has one; then it is what all runs are compared with.
        shared: What is allowed.
    """
    for kind in ("tokenizer", "corpus", "scale"):
        if kind in shared.allow:
            continue
        known = [(part.origin, value) for part in parts for value in _values(part.corpus, part.results, kind)]
        if own is not None and kind != "scale":
            known = [("this study", value) for value in _values(own, parts[0].results, kind)] + known
        first, *others = known
        for origin, value in others:
            if value != first[1] or value is None:
                raise HubError(
                    f"{origin} holds runs of another {kind} than {first[0]}: {value}, not {first[1]}.",
                    "their losses cannot be compared; to pool them all the same, write "
                    f"runs: {{repositories: [{', '.join(shared.repositories)}], "
                    f"allow: [{', '.join([*shared.allow, kind])}]}}",
                )


def _values(corpus: CorpusFacts | None, results: pd.DataFrame, kind: str) -> list[str | None]:
    """What is known of the tokenizer, corpus or scale behind a table of results; `None` where nothing is."""
    match kind:
        case "tokenizer":
            return [corpus.tokenizer_sha256[:12] if corpus else None]
        case "corpus":
            return [corpus.fingerprint[:12] if corpus else None]
        case _:
            ended = results[results["status"] != "failed"]  # a failed run says nothing of its scale
            pairs = ended[["scale", "num_train_tokens"]].drop_duplicates()
            return [f"{scale}, {int(tokens):,} tokens" for scale, tokens in pairs.itertuples(index=False)]
