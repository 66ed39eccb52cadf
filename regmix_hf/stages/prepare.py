"""Stage 1, `prepare`: turn the text of every domain into shuffled blocks of tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regmix_hf.corpus.local_files import stamp_local_files, stamp_local_files_as_0_1
from regmix_hf.evaluation.stamp import stamp_tasks
from regmix_hf.mixtures.budgets import stamp_budgets, token_budgets
from regmix_hf.progress import Progress
from regmix_hf.readable import at_most, count_of, short
from regmix_hf.recipe import Recipe, TrainedTokenizer
from regmix_hf.recipe.model import Base
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.origin import require_accepted
from regmix_hf.training.arguments import merged_arguments
from regmix_hf.training.stamp import stamp_starts

if TYPE_CHECKING:
    from regmix_hf.training.pretrained import Source


def _stamp(recipe: Recipe) -> dict[str, str]:
    """What decides what is read, beside the keys: local files, and how much of a stream is needed."""
    return {
        **stamp_local_files(recipe),
        **stamp_budgets(recipe),
        **stamp_tasks(recipe),
        **stamp_starts(recipe),
    }


def _stamp_as_0_1(recipe: Recipe) -> dict[str, str]:
    return {**stamp_local_files_as_0_1(recipe), **stamp_budgets(recipe)}


STAGE = Stage(
    verb="prepare",
    folder=names.CORPUS,
    keys=("seed", "context_length", "tokenizer", "domains", "corpus"),
    outputs=(names.CORPUS_FACTS, "tokenizer", "*/*.arrow", f"{names.TASKS}/*.parquet", f"{names.METRICS}/*"),
    outside=_stamp,
    outside_as_0_1=_stamp_as_0_1,
)


def run(study: Study, progress: Progress) -> None:
    """Prepare the corpus, going on from what is done, and say what it holds.

    Raises:
        DataError: A source, the tokenizer or a task cannot be had or read, or a domain is too small.
        RecipeError: A domain's name or the validation budget does not work.
        StudyError: A pulled recipe names files or addresses that nobody has accepted.
        MixtureError: The bounds of mixtures, from which follows how much is read, leave none.
    """
    from regmix_hf.corpus.prepare import prepare_corpus
    from regmix_hf.corpus.read_facts import warnings
    from regmix_hf.corpus.survey import local_text
    from regmix_hf.evaluation.prepared import load_questions, prepare_tasks

    require_accepted(study)
    recipe = study.recipe
    budgets = token_budgets(recipe)
    streaming = [name for name in recipe.training_domains if recipe.domains[name].streaming]
    if streaming and budgets is None:
        progress.note(
            f"streamed to the end: {count_of(len(streaming), 'domain')}, because not every training domain "
            "says what it has; give all of them `num_tokens` to read only what the study needs"
        )
    for line in local_text(recipe):
        progress.note(line)
    sources = look_at_starts(recipe)
    tasks = load_questions(recipe)
    facts = prepare_corpus(recipe, study.corpus, progress, budgets)
    facts = fetch_starts(sources, study.corpus, facts)
    for line in strange_tokenizers(recipe, study.corpus):
        progress.note(line)
    facts = prepare_tasks(tasks, study.corpus, facts, progress)
    for line in warnings(recipe, facts):
        progress.note(line)
    trained = [domain.train for domain in facts.domains.values() if domain.train]
    progress.note(
        f"{sum(split.num_tokens for split in trained):,} training tokens in "
        f"{count_of(len(trained), 'domain')}, "
        f"{sum(split.num_bytes for split in trained) / 1e6:,.1f} MB of text, {facts.vocab_size:,} token ids"
    )
    if parts := [name for name, domain in facts.domains.items() if domain.part_of]:
        progress.note(f"of {', '.join(parts)} as much was read as the runs of this recipe can need")
    if samples := facts.samples(recipe):
        progress.note(_sample_warning(recipe, samples))
    if understated := facts.understated(recipe):
        progress.note(_understatement_warning(recipe, understated))
    if little := _less_than_a_step(recipe, facts):
        progress.note(
            f"warning: {', '.join(little)} {'has' if len(little) == 1 else 'have'} less text than one step "
            "of a proxy trains on; give more of it, or make it `validation_only`"
        )
    study.finish(STAGE)


def as_prepared(study: Study) -> Study | None:
    """Return the study without the domains that it got since: `prepare` leaves the text of the others.

    A document of theirs that one of the new domains is validated on is not reckoned with.

    Returns:
        The study; `None` where more has changed, or where with them runs train on other text, too: the
        tokenizer is trained on them, what runs start from is, or another part of a stream is read.
    """
    recipe, facts = study.recipe, CorpusFacts.find(study.corpus)
    if facts is None:
        return None
    domains = {name: domain for name, domain in recipe.domains.items() if name in facts.domains}
    before = Study(recipe.model_copy(update={"domains": domains}))
    if before.damaged(STAGE) or set(before.changes(STAGE)) - set(stamp_tasks(recipe)):
        return None
    if before.recipe.training_domains == recipe.training_domains:
        return before
    budgets, with_more = token_budgets(before.recipe) or {}, token_budgets(recipe) or {}
    is_other = any(with_more.get(name) != budgets.get(name) for name in domains)
    starts_from_all = isinstance(recipe.proxy.model.pretrained, Base)
    return None if is_other or starts_from_all or isinstance(recipe.tokenizer, TrainedTokenizer) else before


def look_at_starts(recipe: Recipe) -> dict[str, tuple[Source, dict[str, Any]]]:
    """Find the models from elsewhere that runs start from, with their shapes, and see whether they fit.

    Raises:
        TrainingError: One is none to start from, or has no place for every token.
        HubError: One cannot be had.
    """
    from regmix_hf.corpus.tokenizer import vocabulary_of
    from regmix_hf.training.pretrained import check_vocabulary, models_from_elsewhere, open_source, read_shape

    found = {}
    for key, model in models_from_elsewhere(recipe).items():
        source = open_source(model)
        keys = read_shape(source, recipe.context_length)
        check_vocabulary(source, keys, vocabulary_of(recipe))
        found[key] = source, keys
    return found


def fetch_starts(
    sources: Mapping[str, tuple[Source, dict[str, Any]]], corpus: Path, facts: CorpusFacts
) -> CorpusFacts:
    """Put their weights beside the blocks of a corpus, and name them in `corpus.json`.

    Raises:
        HubError: They cannot be had.
    """
    from regmix_hf.training.pretrained import fetch_checkpoint

    if not sources:
        return facts
    checkpoints = {key: fetch_checkpoint(source, keys, corpus) for key, (source, keys) in sources.items()}
    facts = facts.model_copy(update={"checkpoints": checkpoints})
    facts.save(corpus)
    return facts


def strange_tokenizers(recipe: Recipe, corpus: Path) -> Iterator[str]:
    """Say which models to start from have another tokenizer than the prepared corpus."""
    from regmix_hf.corpus.corpus import Corpus
    from regmix_hf.corpus.tokenizer import strange_ids
    from regmix_hf.training.pretrained import models_from_elsewhere

    for model in models_from_elsewhere(recipe).values():
        if model.reference is None or model.reference == recipe.tokenizer:
            continue
        tokenizer = Corpus(corpus).tokenizer()
        if count := strange_ids(tokenizer, model.reference):
            yield (
                f"warning: the tokenizer is not that of {model.reference}: {count:,} of "
                f"{len(tokenizer):,} ids are other tokens to it, and their embeddings have to be learnt "
                "anew; leave `tokenizer` out"
            )


def _sample_warning(recipe: Recipe, samples: Mapping[str, int]) -> str:
    name = min(samples, key=lambda name: samples[name] / (recipe.domains[name].num_tokens or 1))
    said = at_most(recipe.domains[name].num_tokens or 0)
    return (
        f"warning: {len(samples)} of {len(recipe.training_domains)} sources ended before their num_tokens, "
        f"{name!r} after {at_most(samples[name])} of {said}: they are samples. Mixtures are drawn around "
        "the shares that the recipe says; leave num_tokens out to have them counted"
    )


def _understatement_warning(recipe: Recipe, counted: Mapping[str, int]) -> str:
    name = max(counted, key=lambda name: counted[name] / (recipe.domains[name].num_tokens or 1))
    said = short(recipe.domains[name].num_tokens or 0)
    return (
        f"warning: {len(counted)} of {len(recipe.training_domains)} sources have more than their num_tokens, "
        f"{name!r} {short(counted[name])} where the recipe says {said}. Mixtures are drawn around the "
        "shares that the recipe says; leave num_tokens out to have them counted"
    )


def _less_than_a_step(recipe: Recipe, facts: CorpusFacts) -> list[str]:
    """Training domains with less text than one optimiser step of a proxy."""
    proxy, arguments = recipe.proxy, merged_arguments(recipe.proxy.training_args)
    blocks = [arguments[key] for key in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    step = proxy.num_batch_tokens or math.prod(map(int, blocks)) * recipe.context_length
    return [
        name
        for name in recipe.training_domains
        if (train := facts.domains[name].train) is not None and train.num_tokens < step
    ]
