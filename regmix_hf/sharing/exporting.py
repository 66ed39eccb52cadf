"""Mixtures to export: of a study, of a fit on tables, of a repository on the Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from regmix_hf.choice import read_chosen
from regmix_hf.corpus.local_files import folder_of, patterns_of, start_of
from regmix_hf.errors import MixtureError, did_you_mean
from regmix_hf.exports import MixtureToTrain
from regmix_hf.hub import Expected, Hub, Reference, Repository, fetch
from regmix_hf.mixtures.final import given_mixture
from regmix_hf.recipe import RECIPE_FILE, Domain, load_recipe
from regmix_hf.recipe.schema import BUILT_IN_MIXTURES, CHOSEN
from regmix_hf.runs.published import read_corpus_facts
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.described import described

_MEGABYTE = 1_000_000


def mixture_of_study(study: Study, name: str) -> MixtureToTrain:
    """Return a final mixture of a study with what its recipe and its corpus say of the domains.

    Args:
        study: The study.
        name: `chosen`, `prior`, `uniform` or a key of `baselines`.

    Raises:
        StudyError: There is no corpus, or no mixture is chosen yet.
        MixtureError: There is no mixture of this name.
    """
    facts = CorpusFacts.load(study.corpus)
    recipe = study.recipe
    if name not in (known := (*BUILT_IN_MIXTURES, *recipe.baselines)):
        raise MixtureError(f"--mixture {name!r} is none of this study; {did_you_mean(name, known)}")
    if name == CHOSEN:
        weights = read_chosen(study.mixture, recipe.training_domains)
    else:
        weights = given_mixture(recipe, name, facts.available_tokens(recipe))
    mixture = described(MixtureToTrain(name, weights), recipe, facts)
    mixture = replace(mixture, domains={one: from_here(domain) for one, domain in recipe.domains.items()})
    files = {domain: study.corpus / domain / "train.arrow" for domain in mixture.shares}
    if any(facts.domains[domain].part_of for domain in files) or not all(f.exists() for f in files.values()):
        return mixture  # a final run needs more text than what is prepared for proxies
    return replace(mixture, blocks={domain: str(file) for domain, file in files.items()})


def from_here(domain: Domain) -> Domain:
    """Return a domain whose paths start at the working directory: others know no folder of the recipe."""
    start, folder = folder_of(domain)
    if start is not None:
        return domain.model_copy(update={"path": str(folder)})
    if (start := start_of(domain)) is None:
        return domain
    files = {
        split: [name if "://" in name else str(start / name) for name in names_of_split]
        for split, names_of_split in patterns_of(domain).items()
    }
    return domain.model_copy(update={"data_files": files, "data_dir": None})


def mixture_of_fit(folder: Path) -> MixtureToTrain:
    """Return the mixture that `regmix choose` wrote into the folder of a fit: its weights are all there is.

    Raises:
        StudyError: Nothing is chosen there yet.
    """
    return MixtureToTrain("chosen", read_chosen(folder / names.CHOSEN_MIXTURE))


def mixture_of_repository(text: str) -> MixtureToTrain:
    """Return the mixture of `NAMESPACE/NAME-mixture[@REVISION]`, and what the study's runs say of domains.

    Raises:
        HubError: There is no such repository, or what it holds is no mixture.
    """
    reference, hub = Reference.parse(text, "dataset"), Hub()
    snapshot = hub.snapshot(reference.repository, reference.revision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fetch(hub, snapshot, [Expected(names.CHOSEN_MIXTURE, max_bytes=_MEGABYTE)], folder)
        mixture = MixtureToTrain("chosen", read_chosen(folder / names.CHOSEN_MIXTURE))
        runs = Repository("dataset", reference.repository.id.removesuffix("-mixture") + "-runs")
        beside = hub.find(runs, reference.revision)
        if beside is None:
            return mixture
        files = [Expected(RECIPE_FILE, _MEGABYTE), Expected(names.CORPUS_FACTS, 5 * _MEGABYTE)]
        fetch(hub, beside, files, folder)
        facts = read_corpus_facts(
            (folder / names.CORPUS_FACTS).read_bytes(), f"{runs.id}: {names.CORPUS_FACTS}"
        )
        return described(mixture, load_recipe(folder / RECIPE_FILE), facts)


def mixture_to_publish(study: Study, facts: CorpusFacts | None, sources: Collection[str]) -> MixtureToTrain:
    """Return the chosen mixture with what everybody may know of its domains, and could use.

    Args:
        study: The study.
        facts: The counts of its corpus; `None` where there are none.
        sources: Datasets on the Hub that everybody finds; other text is nobody's but the publisher's.

    Raises:
        StudyError: No mixture is chosen yet.
    """
    recipe = study.recipe
    mixture = MixtureToTrain(CHOSEN, read_chosen(study.mixture, recipe.training_domains))
    if facts is None:
        return mixture
    told = described(mixture, recipe, facts)
    is_folder = told.tokenizer is not None and Path(told.tokenizer).exists()
    return replace(
        told,
        tokenizer=None if is_folder else told.tokenizer,
        domains={name: domain for name, domain in recipe.domains.items() if domain.path in sources},
    )
