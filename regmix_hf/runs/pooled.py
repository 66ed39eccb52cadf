"""The runs of a study: its own, and those of others that its recipe names, where they are comparable."""

from __future__ import annotations

from regmix_hf.files import read_parquet
from regmix_hf.hub import Hub, Reference
from regmix_hf.progress import Progress, Silent
from regmix_hf.readable import count_of
from regmix_hf.recipe.target import AskedTarget
from regmix_hf.runs.comparable import Swarm, below_each_other, check_comparable
from regmix_hf.runs.experts import pooled_experts, read_experts
from regmix_hf.runs.published import load_published
from regmix_hf.runs.runs import Runs
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.folder import Study
from regmix_hf.tables import FITTED_RUNS


def pooled_runs(study: Study, progress: Progress | None = None) -> Runs:
    """Read the study's own runs, if it has any, and those that its recipe names, each run once.

    Raises:
        StudyError: The study has none, and the recipe names none.
        HubError: Runs cannot be had, or come from another corpus, tokenizer or scale.
        DataError: A table of results cannot be used.
    """
    runs = _pooled(study, progress or Silent())
    for note in runs.notes:
        (progress or Silent()).note(note)
    return runs


def _pooled(study: Study, progress: Progress) -> Runs:
    asked = AskedTarget.of(study.recipe.regression.target)
    own, shared = study.proxies / names.RESULTS, study.recipe.runs
    if shared is None:
        table = read_parquet(study.require(own, "proxies"), FITTED_RUNS)
        experts = read_experts(own.with_name(names.EXPERTS))
        return Runs.from_results(table, str(own), asked=asked.names, given=asked.directions, experts=experts)
    parts = []
    facts = CorpusFacts.load(study.corpus) if (study.corpus / names.CORPUS_FACTS).exists() else None
    if own.exists():
        experts = read_experts(own.with_name(names.EXPERTS))
        parts.append(Swarm(str(own), facts, read_parquet(own, FITTED_RUNS), experts))
    for text in shared.repositories:
        reference = Reference.parse(text, "dataset")
        cache = study.regression / "shared" / reference.repository.id.replace("/", "--")
        parts.append(
            load_published(text, cache=cache / (reference.revision or ""), hub=Hub(progress=progress))
        )
    first = parts[0] if facts is None else Swarm("this study", facts, parts[0].results)
    for part in parts:
        check_comparable(
            first,
            part,
            allow=shared.allow,
            hint="to pool them all the same, write runs: {{"
            f"repositories: [{', '.join(shared.repositories)}], "
            f"allow: [{', '.join([*shared.allow, '{kind}'])}]}}}}",
        )
    results = below_each_other([part.results for part in parts])
    results = results.sort_values("status", key=lambda status: status != "ok", kind="stable")
    results = results.drop_duplicates("run_id").sort_index(ignore_index=True)  # a run that ended well, if any
    if len(parts) > 1:
        sources = ", ".join(f"{len(part.results)} of {part.name}" for part in parts)
        progress.note(f"{count_of(len(results), 'run')} from {len(parts)} sources: {sources}")
    origin = " and ".join(part.name for part in parts)
    return Runs.from_results(
        results,
        origin,
        asked=asked.names,
        given=asked.directions,
        experts=pooled_experts([part.experts for part in parts if part.experts is not None], progress),
    )
