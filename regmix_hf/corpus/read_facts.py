"""What is said of the text that was read: counts for `corpus.json`, and what looks wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator

from regmix_hf.corpus.columns import FILTERED
from regmix_hf.corpus.reading import Counts
from regmix_hf.corpus.source import CountingSource, Source
from regmix_hf.readable import count_of
from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts, ReadFacts

#: Documents below this mean length, in characters, or of more than this share of EOS, may be no documents.
SHORT_CHARACTERS, MUCH_EOS = 200, 0.01
#: Above this share of a domain, tokens that fill no block are said.
MUCH_LEFT_OVER = 0.01


def read_facts(source: Source, counts: Counts) -> ReadFacts:
    """What a split was read from, after it was."""
    facts = ReadFacts(
        num_rows=counts.num_rows,
        left_out=dict(sorted(counts.left_out.items())),
        num_documents=counts.num_texts,
        num_characters=counts.num_characters,
    )
    if not isinstance(source, CountingSource) or (known := source.read_files) is None:
        return facts
    found, num_files = known
    return facts.model_copy(
        update={
            "num_files": num_files,
            "num_links": found.num_links,
            "num_twice": found.num_twice,
            "num_unmatched": len(found.unmatched),
            "num_other_files": sum(count for _, count in found.left_out),
        }
    )


def warnings(recipe: Recipe, facts: CorpusFacts) -> Iterator[str]:
    """What looks wrong in what was read."""
    for name, domain in facts.domains.items():
        for split, read in domain.read.items():
            if read.left_out.keys() - {FILTERED}:
                what = name if split == "train" or domain.train is None else f"{name} (validation)"
                yield f"warning: {what}: {_left_out(read, recipe.domains[name].text_column)}"
    yield from _short(facts)
    yield from _left_over(facts)


def _left_out(read: ReadFacts, column: str) -> str:
    number = sum(count for reason, count in read.left_out.items() if reason != FILTERED)
    why = ", ".join(f"{count:,} {reason}" for reason, count in read.left_out.items() if reason != FILTERED)
    return f"{number:,} of {count_of(read.num_rows, 'row')} have no text in {column!r}: {why}"


def _short(facts: CorpusFacts) -> Iterator[str]:
    short = {}
    for name, domain in facts.domains.items():
        written = domain.main_split
        read = domain.main_read
        length = read.num_characters / max(read.num_documents, 1) if read else math.inf
        if length < SHORT_CHARACTERS or written.num_documents > MUCH_EOS * written.num_tokens:
            short[name] = length, written.num_documents / written.num_tokens
    if short:
        each = ", ".join(f"{name} {length:,.0f} characters" for name, (length, _) in short.items())
        eos = max(share for _, share in short.values())
        yield (
            f"warning: documents are short: on average {each}; up to {eos:.1%} of the tokens only end one. "
            "Where they are parts of documents, as lines of a file are, give whole ones"
        )


def _left_over(facts: CorpusFacts) -> Iterator[str]:
    """Where much of a domain is trained on by no run, since it is less than a block."""
    for name, split in facts.training.items():
        left = split.num_tokens - split.num_blocks * facts.context_length
        if left > MUCH_LEFT_OVER * split.num_tokens:
            yield (
                f"{name}: {left:,} of {split.num_tokens:,} tokens ({left / split.num_tokens:.1%}) are left "
                f"over: they are shorter than a block of {facts.context_length:,}"
            )


def size_of(num_bytes: int) -> str:
    """A number of bytes for people: `4 kB`."""
    power = min(3, (len(str(num_bytes)) - 1) // 3)
    size = num_bytes / 1000**power
    return f"{size:,.{0 if size >= 10 or power == 0 else 1}f} {('bytes', 'kB', 'MB', 'GB')[power]}"
