"""Read a prepared corpus: blocks and tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import datasets
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from regmix_hf.corpus.blocks import check_blocks
from regmix_hf.errors import StudyError
from regmix_hf.study.corpus_facts import CorpusFacts

SplitName = Literal["train", "validation"]


class Corpus:
    """A folder that `prepare` wrote.

    Args:
        folder: `1-corpus` of a study.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def facts(self) -> CorpusFacts:
        """Counts and hashes.

        Raises:
            StudyError: The corpus is not prepared yet, or not completely.
        """
        return CorpusFacts.load(self.folder)

    def only(self, facts: CorpusFacts) -> Corpus:
        """The same folder, of which nothing but what these `facts` name is seen."""
        part = Corpus(self.folder)
        part.facts = facts
        return part

    def blocks(self, domain: str, split: SplitName) -> datasets.Dataset:
        """Blocks of one split of one domain, shuffled once, read through a memory map.

        Returns:
            One column `input_ids`: a list of `context_length` unsigned integers per row.

        Raises:
            StudyError: The corpus has no such domain, nothing of it to train on, or other blocks than were
                prepared.
        """
        file = self.folder / domain / f"{split}.arrow"
        written = getattr(self.facts.domains.get(domain), split, None)
        if written is None:
            raise StudyError(f"the corpus {self.folder} holds no {split} blocks of a domain {domain!r}.")
        check_blocks(file, written, self.facts.context_length)
        return datasets.Dataset.from_file(str(file))

    def check(self) -> Iterator[str]:
        """Read all blocks of all domains and compare them with what was prepared; yield what was.

        Raises:
            StudyError: A file holds other blocks.
        """
        for name, domain in self.facts.domains.items():
            for split, facts in (("train", domain.train), ("validation", domain.validation)):
                if facts is not None:
                    file = self.folder / name / f"{split}.arrow"
                    check_blocks(file, facts, self.facts.context_length, whole=True)
            yield f"{name}: its blocks are those that were prepared"

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the blocks."""
        return AutoTokenizer.from_pretrained(self.folder / "tokenizer", trust_remote_code=False)
