"""The corpus's tokenizer: one that exists, or a BPE trained on the corpus."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import PreTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from regmix_hf.corpus.encode import DocumentEncoder
from regmix_hf.corpus.holdout import document_hash, hash_below
from regmix_hf.corpus.source import Source
from regmix_hf.errors import DataError
from regmix_hf.files import hash_file, hash_value, read_record, write_json
from regmix_hf.progress import Progress
from regmix_hf.recipe import Recipe, TrainedTokenizer
from regmix_hf.reference import split_reference

#: Text a tokenizer is trained on, in bytes of UTF-8 over all domains.
SAMPLE_BYTES = 1 << 24
#: Words longer than this, in characters, are cut before a tokenizer is trained: the time that takes grows
#: with the square of a word's length, and rules, base64 and runs of NUL are words of a million.
LONG_WORD = 512
#: What may hold such a word: a run without white space, or of nothing else.
_LONG_RUN = re.compile(rf"\S{{{LONG_WORD + 1}}}|\s{{{LONG_WORD + 1}}}")
#: The end of a document, in a tokenizer trained here.
EOS_TOKEN = "<|endoftext|>"


@dataclass(frozen=True)
class CorpusTokenizer:
    """What the corpus needs to know of its tokenizer.

    Attributes:
        file: `tokenizer.json`.
        vocab_size: Number of ids, special ones included.
    """

    file: Path
    eos_token_id: int
    vocab_size: int

    @property
    def sha256(self) -> str:
        """Of `tokenizer.json`."""
        return hash_file(self.file)


def prepare_tokenizer(
    recipe: Recipe, folder: Path, sources: Mapping[str, Source], progress: Progress
) -> CorpusTokenizer:
    """Put the recipe's tokenizer into `folder`, unless it is there already.

    Args:
        recipe: Says which.
        folder: Afterwards `AutoTokenizer.from_pretrained` loads it.
        sources: The training text of every training domain, for a tokenizer that is trained.
        progress: Told when the text does not fill the vocabulary.

    Raises:
        DataError: The tokenizer cannot be had, is not a fast one, or has no EOS token.
    """
    identity = hash_value(_identity(recipe, sources))
    marker = folder / ".prepared.json"
    if not marker.exists() or read_record(marker, identity=str)["identity"] != identity:
        if isinstance(recipe.tokenizer, TrainedTokenizer):
            tokenizer = _train(recipe, sources, progress)
        else:
            tokenizer = _load(recipe.tokenizer)
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        tokenizer.save_pretrained(temporary)
        _check_eos(temporary / "tokenizer.json", tokenizer)
        write_json(temporary / marker.name, {"identity": identity, **_facts(tokenizer)})
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    facts = read_record(marker, eos_token_id=int, vocab_size=int)
    return CorpusTokenizer(folder / "tokenizer.json", facts["eos_token_id"], facts["vocab_size"])


def _identity(recipe: Recipe, sources: Mapping[str, Source]) -> Any:
    if isinstance(recipe.tokenizer, TrainedTokenizer):
        texts = {name: source.identity for name, source in sources.items()}
        held_out = {
            name: recipe.domains[name].validation_split is None and recipe.corpus.validation_fraction
            for name in sources
        }
        return [recipe.tokenizer.model_dump(), texts, held_out, SAMPLE_BYTES]
    file = Path(recipe.tokenizer) / "tokenizer.json"
    return [recipe.tokenizer, hash_file(file) if file.is_file() else None]


def _facts(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    largest = max(tokenizer.get_vocab().values())
    return {"eos_token_id": tokenizer.eos_token_id, "vocab_size": max(len(tokenizer), largest + 1)}


def vocabulary_of(recipe: Recipe) -> int:
    """Tokens of the recipe's tokenizer, at the most, before it is prepared.

    Raises:
        DataError: It cannot be had.
    """
    if isinstance(recipe.tokenizer, TrainedTokenizer):
        return recipe.tokenizer.train.vocab_size
    return _facts(_load(recipe.tokenizer))["vocab_size"]


def strange_ids(tokenizer: PreTrainedTokenizerBase, model: str) -> int | None:
    """Count the ids that are other tokens to the tokenizer of a model; `None` where it comes without one."""
    try:
        own = _load(model).get_vocab()
    except DataError:
        return None
    return sum(own.get(token) != number for token, number in tokenizer.get_vocab().items())


def _load(path: str) -> PreTrainedTokenizerBase:
    name, revision = (None if Path(path).exists() else split_reference(path)) or (path, None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(
            f"tokenizer: {path!r} cannot be had: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "give the id of a model on the Hub (with a network, or once downloaded), the folder of a "
            "tokenizer, or `{train: {vocab_size: 4096}}`",
        ) from error
    if not tokenizer.is_fast:
        raise DataError(
            f"tokenizer: {path!r} has no fast version (tokenizer.json).",
            "convert it with `transformers`, or give another",
        )
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"tokenizer: {path!r} has no EOS token, which ends every document.",
            "set `eos_token` in its tokenizer_config.json",
        )
    return tokenizer


def _check_eos(file: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """EOS must mean the end of a document and nothing else, also where a document contains its text."""
    facts = _facts(tokenizer)
    encoder = DocumentEncoder(file, facts["eos_token_id"], facts["vocab_size"])
    if facts["eos_token_id"] in encoder.ids(f"a {tokenizer.eos_token} b") + encoder.ids(tokenizer.eos_token):
        raise DataError(
            f"tokenizer: it reads the text {tokenizer.eos_token!r} as its EOS token, so a document that "
            "contains it would end there.",
            "give a tokenizer whose EOS token is a special one, that no text is made of",
        )


def _train(recipe: Recipe, sources: Mapping[str, Source], progress: Progress) -> PreTrainedTokenizerBase:
    """A byte-level BPE trained on the same number of bytes of every domain; short domains are repeated."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    assert isinstance(recipe.tokenizer, TrainedTokenizer)
    asked = recipe.tokenizer.train.vocab_size
    samples = []
    with progress.bar("tokenizer", total=len(sources), unit="domains") as bar:
        for number, (name, source) in enumerate(sources.items()):
            bar.update(number, detail=name)
            carved = recipe.domains[name].validation_split is None
            below = hash_below(recipe.corpus.validation_fraction) if carved else 0
            samples.append(_sample(source, below, SAMPLE_BYTES // len(sources)))
        bar.update(len(sources), detail="merging")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=asked,
            special_tokens=[EOS_TOKEN],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        texts = _without_long_words(_equal(samples), tokenizer.pre_tokenizer)
        tokenizer.train_from_iterator(texts, trainer)
    filled = tokenizer.get_vocab_size()
    if filled < asked:
        progress.note(f"tokenizer: the text fills {filled:,} of the {asked:,} tokens of train.vocab_size")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS_TOKEN)


def _sample(source: Source, held_out_below: int, num_bytes: int) -> list[bytes]:
    """The first documents of a source that are not held out, cut at `num_bytes`."""
    sample, left = [], num_bytes
    for piece in source.pieces(None):
        for text in piece.texts:
            utf8 = text.encode()
            if document_hash(utf8) >= held_out_below:
                sample.append(utf8[:left])
                left -= len(utf8)
                if left <= 0:
                    return sample
    return sample


def _equal(samples: list[list[bytes]]) -> Iterator[str]:
    """All samples, each repeated until it is as long as the longest."""
    longest = max(sum(map(len, sample)) for sample in samples)
    for sample in samples:
        left = longest if sample else 0
        for utf8 in itertools.cycle(sample):
            if left <= 0:
                break
            yield utf8[:left].decode("utf-8", errors="ignore")  # a cut may fall inside a character
            left -= len(utf8)


def _without_long_words(texts: Iterator[str], words: PreTokenizer) -> Iterator[str]:
    """The texts, cut inside words longer than `LONG_WORD` and nowhere else."""
    for text in texts:
        if _LONG_RUN.search(text) is None:
            yield text
            continue
        start = 0
        for _, (first, end) in words.pre_tokenize_str(text):
            for cut in range(first + LONG_WORD, end, LONG_WORD):
                yield text[start:cut]
                start = cut
        yield text[start:]
