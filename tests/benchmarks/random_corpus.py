"""A corpus of random tokens, for measuring: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regmix_hf.corpus.blocks import write_blocks
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts


def build_corpus(
    folder: Path,
    vocab_size: int,
    context_length: int,
    num_domains: int,
    num_blocks: int,
    num_validation: int = 8,
) -> Corpus:
    """Write domains `d0`, `d1`, ..., each of `num_blocks` and `num_validation` blocks, and open them."""
    rng = np.random.default_rng(0)
    domains = {}
    for k in range(num_domains):
        facts = {}
        for split, count in (("train", num_blocks), ("validation", num_validation)):
            tokens = rng.integers(0, vocab_size, count * context_length, dtype=np.uint16)
            written = write_blocks(folder / f"d{k}" / f"{split}.arrow", tokens.view, context_length, rng)
            facts[split] = SplitFacts(
                num_documents=1,
                num_bytes=4 * len(tokens),
                num_tokens=len(tokens),
                num_blocks=count,
                sha256=written.sha256,
            )
        domains[f"d{k}"] = DomainFacts(**facts)
    CorpusFacts(
        context_length=context_length,
        vocab_size=vocab_size,
        eos_token_id=0,
        tokenizer_sha256="",
        domains=domains,
    ).save(folder)
    return Corpus(folder)
