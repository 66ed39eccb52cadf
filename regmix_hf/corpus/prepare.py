"""Prepare a corpus: from the recipe's domains to shuffled blocks, going on from whatever is done."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import entropy

from regmix_hf.corpus.blocks import check_blocks, shuffle_generator, write_blocks
from regmix_hf.corpus.encode import DocumentEncoder, EncoderPool, encoder_pool
from regmix_hf.corpus.holdout import HoldoutRule, LowestHashes, document_hash, hash_below, hold_out_all
from regmix_hf.corpus.markers import Marker, Trained, Validated, said_by
from regmix_hf.corpus.opening import open_source
from regmix_hf.corpus.read_facts import read_facts
from regmix_hf.corpus.reading import Budget, Reading, read_together
from regmix_hf.corpus.rules import DIVISION, Divided, Division, excluded_hashes
from regmix_hf.corpus.source import SharingSource, Source
from regmix_hf.corpus.tokenizer import CorpusTokenizer, prepare_tokenizer
from regmix_hf.errors import DataError, RecipeError, StudyError
from regmix_hf.files import atomic_path, hash_value, write_json
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe import Recipe
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts

#: Part of every identity: raised when the same text would now become other blocks.
_FORMAT = 1
#: The same for readings that were interrupted: raised when sources say in another way where they stand.
_POSITIONS = 3


def prepare_corpus(
    recipe: Recipe, folder: Path, progress: Progress | None = None, budgets: Mapping[str, int] | None = None
) -> CorpusFacts:
    """Tokenize, pack and shuffle every domain of `recipe` into `folder`.

    Per domain: `train.arrow` and `validation.arrow`, which `datasets.Dataset.from_file` reads, and
    `validation.jsonl`; `tokenizer/`; last of all `corpus.json`. Killed and called again it goes on where it
    was, and ends with the same bytes. A domain is done again when its source, the tokenizer, or another key
    that shapes its blocks has changed. No document that a domain validates on is trained on in it; nor in
    another domain, but for one case: a document in the carved-out validation of one domain may be in the
    training text of a domain that has a validation split of its own.

    Args:
        recipe: Its `seed`, `context_length`, `tokenizer`, `domains` and `corpus`.
        folder: `1-corpus` of a study; created when missing.
        progress: Told how far each domain is.
        budgets: Training tokens that are enough, of some domains; the others are read to their ends. A
            validation split of its own is then read as far as it fills the validation budget, where it
            streams. `None`: everything is read.

    Returns:
        What the corpus now holds.

    Raises:
        DataError: A source or the tokenizer cannot be had or read, or a domain is too small.
        RecipeError: A domain's name or the validation budget does not work.
    """
    progress = progress or Silent()
    _check(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    training = {name: open_source(name, recipe.domains[name], "train") for name in recipe.training_domains}
    validation = {
        name: open_source(name, domain, "validation")
        for name, domain in recipe.domains.items()
        if domain.validation_only or domain.validation_split is not None
    }
    _retract(recipe, folder, {"train": training, "validation": validation}, budgets)
    tokenizer = prepare_tokenizer(recipe, folder / "tokenizer", training, progress)
    with encoder_pool(
        tokenizer.file, tokenizer.eos_token_id, tokenizer.vocab_size, recipe.corpus.num_proc
    ) as pool:
        return _Preparation(recipe, folder, tokenizer, pool, progress, budgets).run(training, validation)


def _check(recipe: Recipe) -> None:
    if "tokenizer" in recipe.domains or names.CORPUS_FACTS in recipe.domains:
        raise RecipeError(
            f"domains: `tokenizer` and `{names.CORPUS_FACTS}` are names of the corpus's own files."
        )
    if recipe.corpus.max_validation_tokens < recipe.context_length:
        raise RecipeError(
            f"corpus.max_validation_tokens {recipe.corpus.max_validation_tokens} is less than one block "
            f"of context_length {recipe.context_length} tokens."
        )


def _retract(
    recipe: Recipe,
    folder: Path,
    sources: Mapping[str, Mapping[str, Source]],
    budgets: Mapping[str, int] | None,
) -> None:
    """Take back what says that the corpus is complete, before the first file of another corpus is written."""
    texts = {
        purpose: {name: source.identity for name, source in by_name.items()}
        for purpose, by_name in sources.items()
    }
    keys = recipe.model_dump(mode="json", include={"seed", "context_length", "tokenizer", "corpus"})
    del keys["corpus"]["num_proc"]
    identity = hash_value([_FORMAT, keys, texts, *([dict(budgets)] if budgets else [])])
    marker = folder / ".identity.json"
    if said_by(marker, identity, Marker) is None:
        (folder / names.CORPUS_FACTS).unlink(missing_ok=True)
        write_json(marker, {"identity": identity})


@dataclass(frozen=True)
class _Text:
    """One split of a domain: whence it comes, where its documents go, how much of it is wanted."""

    name: str
    split: Literal["train", "validation"]
    source: Source
    rule: HoldoutRule
    budget: Budget | None


@dataclass(frozen=True)
class _Preparation:
    recipe: Recipe
    folder: Path
    tokenizer: CorpusTokenizer
    pool: EncoderPool
    progress: Progress
    budgets: Mapping[str, int] | None

    def run(self, training: Mapping[str, Source], own: Mapping[str, Source]) -> CorpusFacts:
        """All domains: what only validates first, because nothing of it may be trained on."""
        texts = {name: self._validation_text(name, source) for name, source in own.items()}
        self._read_what_shares_files(texts.values())
        validation = {name: self._own_validation(text) for name, text in texts.items()}
        plans = {name: self._plan(name, source) for name, source in training.items() if name not in own}
        excluded = excluded_hashes(self.folder, own, plans.values())
        texts = {}
        for name, source in training.items():
            below = plans[name].below if name in plans else 0
            rule = HoldoutRule(below, excluded, self.recipe.corpus.max_validation_tokens)
            texts[name] = self._training_text(name, source, rule)
        self._read_what_shares_files(texts.values())
        domains = {
            name: self._train(texts[name], validation.get(name)) if name in texts else validation[name]
            for name in self.recipe.domains
        }
        facts = CorpusFacts(
            context_length=self.recipe.context_length,
            vocab_size=self.tokenizer.vocab_size,
            eos_token_id=self.tokenizer.eos_token_id,
            tokenizer_sha256=self.tokenizer.sha256,
            domains=domains,
        )
        facts.save(self.folder)
        return facts

    def _validation_text(self, name: str, source: Source) -> _Text:
        """What a domain validates on, where that need not be carved out of its training text."""
        rule = hold_out_all(self.recipe.corpus.max_validation_tokens)
        budget = None
        if self.budgets is not None and self.recipe.domains[name].streaming:
            budget = Budget(0, rule.max_tokens)
        return _Text(name, "validation", source, rule, budget)

    def _training_text(self, name: str, source: Source, rule: HoldoutRule) -> _Text:
        """What a domain trains on, and validates on where it has nothing else."""
        budget = None
        if self.budgets is not None and name in self.budgets:
            carved_out = self.recipe.domains[name].validation_split is None
            budget = Budget(self.budgets[name], self.recipe.context_length if carved_out else 0)
        return _Text(name, "train", source, rule, budget)

    def _read_what_shares_files(self, texts: Iterable[_Text]) -> None:
        """Read the files that several domains pick their rows from, once for all that are not done."""
        sharing: dict[Hashable, list[tuple[SharingSource, Reading]]] = {}
        for text in texts:
            source = text.source
            if not isinstance(source, SharingSource):
                continue
            if said_by(self._marker(text), self._identity(text), Marker) is None:
                sharing.setdefault(source.shared_files, []).append((source, self._reading(text)))
        for together in sharing.values():
            pairs = [(source, reading) for source, reading in together if not reading.done]
            if len(pairs) > 1:
                self._read_shared(*zip(*pairs, strict=True))

    def _read_shared(self, sources: Sequence[SharingSource], readings: Sequence[Reading]) -> None:
        positions = [reading.position for reading in readings]
        pieces = sources[0].pieces_of_all(sources, positions, lambda number: not readings[number].done)
        with self.progress.bar(f"text of {len(sources)} domains", total=math.inf, unit="rows") as bar:
            read_together(readings, pieces, self.pool, bar)

    def _own_validation(self, text: _Text) -> DomainFacts:
        """Prepare the validation text of a domain that need not be carved out of its training text."""
        marker, identity = self._marker(text), self._identity(text)
        if (before := said_by(marker, identity, Validated)) is not None:
            facts = DomainFacts(train=None, validation=before.validation, read=before.read)
            if self._is_whole(text.name, facts):
                self._discard(text)
                return facts
        self._begin(text.name)
        reading = self._read(text)
        validation, cut = self._write_validation(text.name, reading)
        facts = DomainFacts(
            train=None, validation=validation, read={"validation": read_facts(text.source, reading.counts)}
        )
        done = facts.model_dump(exclude_defaults=True, exclude={"train"})
        write_json(marker, {"identity": identity, "cut": cut, **done})
        self._discard(text)
        return facts

    def _train(self, text: _Text, own: DomainFacts | None) -> DomainFacts:
        """Prepare the training text of a domain, and the validation text that is carved out of it."""
        marker, identity = self._marker(text), self._identity(text)
        done = said_by(marker, identity, Trained)
        if done is None or not self._is_whole(text.name, done.facts):
            self._begin(text.name, keep_validation=own is not None)
            reading = self._read(text)
            train = self._write_train(text.name, reading)
            validation = own.validation if own else self._write_validation(text.name, reading)[0]
            read = {"train": read_facts(text.source, reading.counts), **(own.read if own else {})}
            facts = DomainFacts(train=train, validation=validation, read=read)
            done = Trained(facts, reading.to_the_end)
            tree = {"facts": facts.model_dump(exclude_defaults=True), "to_the_end": done.to_the_end}
            write_json(marker, {"identity": identity, **tree})
        self._discard(text)
        part_of = None if done.to_the_end else self.recipe.domains[text.name].num_tokens
        return done.facts.model_copy(update={"part_of": part_of})

    def _is_whole(self, name: str, facts: DomainFacts) -> bool:
        """Whether the files of a domain still hold the blocks that were written."""
        written = {"train": facts.train, "validation": facts.validation}
        try:
            for split, blocks in written.items():
                if blocks is not None:
                    file = self.folder / name / f"{split}.arrow"
                    check_blocks(file, blocks, self.recipe.context_length)
        except StudyError as error:
            self.progress.note(f"{error.message} It is written anew.")
            return False
        return (self.folder / name / names.HELD_OUT).is_file()

    def _begin(self, name: str, *, keep_validation: bool = False) -> None:
        """Before a domain's files change: what vouches for them goes, and what a killed process left."""
        for leftover in (self.folder / name).glob(".*.tmp"):
            leftover.unlink()
        (self.folder / name / "train.json").unlink(missing_ok=True)
        if not keep_validation:
            (self.folder / name / "validation.json").unlink(missing_ok=True)

    def _reading(self, text: _Text) -> Reading:
        identity = [_FORMAT, _POSITIONS, self.tokenizer.sha256, text.source.identity]
        return Reading(self._tokens(text), identity, text.rule, self.pool.encoder.type, text.budget)

    def _read(self, text: _Text) -> Reading:
        total = math.inf if text.budget else text.source.num_rows or math.inf
        with self.progress.bar(f"{text.split} text of {text.name}", total=total, unit="documents") as bar:
            return self._reading(text).read(text.source, self.pool, bar)

    def _tokens(self, text: _Text) -> Path:
        return self.folder / text.name / f".{text.split}"

    def _marker(self, text: _Text) -> Path:
        return self.folder / text.name / f"{text.split}.json"

    def _discard(self, text: _Text) -> None:
        """Delete the tokens that have become blocks; a killed process may have left them."""
        shutil.rmtree(self._tokens(text), ignore_errors=True)

    def _write_train(self, name: str, reading: Reading) -> SplitFacts:
        counts, length = reading.counts, self.recipe.context_length
        if counts.num_tokens < length:
            raise DataError(
                f"domain {name!r} is shorter than one block: {counts.num_tokens} tokens in "
                f"{counts.num_documents} documents are left to train on, context_length is {length}.",
                "give it more text or documents (a text file is one; `sample_by: paragraph` makes it many), "
                "make context_length smaller, or make the domain `validation_only`",
            )
        generator = shuffle_generator(self.recipe.seed, name, "train")
        written = write_blocks(self.folder / name / "train.arrow", reading.train_tokens, length, generator)
        return SplitFacts(
            num_documents=counts.num_documents,
            num_bytes=counts.num_bytes,
            num_tokens=counts.num_tokens,
            **vars(written),
        )

    def _write_validation(self, name: str, reading: Reading) -> tuple[SplitFacts, list[int]]:
        """Write what is held out, up to the budget; return the hash of a document that was cut there, too."""
        length, left = self.recipe.context_length, self.recipe.corpus.max_validation_tokens
        ids: list[np.ndarray] = []
        sizes, cut = [], []
        with (
            atomic_path(self.folder / name / names.HELD_OUT) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            for text, num_bytes, tokens in reading.held_out():
                if len(tokens) > left:
                    cut.append(document_hash(text.encode()))
                    text = self.pool.encoder.beginning(text, left)
                    num_bytes = len(text.encode())
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                ids.append(tokens[:left])
                sizes.append(num_bytes)
                left -= len(tokens)
        num_tokens = sum(map(len, ids))
        if num_tokens < length:
            raise DataError(
                f"domain {name!r}: its validation text has {num_tokens} tokens, less than one block of "
                f"context_length {length}.",
                "give it more text to validate on, or make context_length smaller",
            )
        generator = shuffle_generator(self.recipe.seed, name, "validation")
        used = np.concatenate(ids)
        written = write_blocks(self.folder / name / "validation.arrow", lambda: used, length, generator)
        facts = SplitFacts(
            num_documents=len(sizes),
            num_bytes=sum(sizes),
            num_tokens=num_tokens,
            token_entropy=float(entropy(np.unique(used, return_counts=True)[1])),
            **vars(written),
        )
        return facts, cut

    def _plan(self, name: str, source: Source) -> Division:
        """Decide which documents of a domain are held out; for most domains its first documents tell."""
        marker = self.folder / name / DIVISION
        length, fraction = self.recipe.context_length, self.recipe.corpus.validation_fraction
        identity = hash_value([_FORMAT, self.tokenizer.sha256, source.identity, length, fraction])
        if (done := said_by(marker, identity, Divided)) is None:
            plan = _divide(name, source, self.pool.encoder, fraction, length)
            write_json(marker, {"identity": identity, "plan": asdict(plan)})
            return plan
        return done.plan

    def _identity(self, text: _Text) -> str:
        recipe, budget = self.recipe, text.budget
        blocks = [_FORMAT, recipe.seed, recipe.context_length, self.tokenizer.sha256]
        read = [vars(budget)] if budget else []
        return hash_value([blocks, text.source.identity, text.rule.identity, *read])


def _divide(
    name: str, source: Source, encoder: DocumentEncoder, fraction: float, context_length: int
) -> Division:
    """Hold out a share `fraction` of the documents, or the few of lowest hash that fill one block."""
    below = hash_below(fraction)
    lowest = LowestHashes(context_length)
    num_rows = 0
    for piece in source.pieces(None):
        num_rows += piece.num_rows
        for text in piece.texts:
            document = document_hash(text.encode())
            if document < lowest.bound:
                lowest.offer(document, len(encoder.ids(text)) + 1)
        if lowest.bound < below:
            return Division(below, [])
    if lowest.num_tokens == 0:
        raise DataError(
            f"domain {name!r} is empty: none of its {num_rows} rows has text that passes `filter`."
        )
    if lowest.num_tokens < context_length:
        raise DataError(
            f"domain {name!r} is shorter than one block: it has {lowest.num_tokens} tokens, "
            f"context_length is {context_length}.",
            "give it more text or make context_length smaller",
        )
    return Division(lowest.bound + 1, [document for document in lowest.hashes if document >= below])
