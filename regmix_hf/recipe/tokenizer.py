"""The keys of a tokenizer: one that exists, or one to train."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from regmix_hf.recipe.section import Section


class TrainTokenizer(Section):
    """A byte-level BPE, trained on the same number of bytes of every training domain."""

    vocab_size: Annotated[int, Field(ge=257)]
    """Tokens of the vocabulary, bytes and the end of a text included."""


class TrainedTokenizer(Section):
    """`tokenizer: {train: {vocab_size: 4096}}`."""

    train: TrainTokenizer
    """How it is trained."""


def _kind_of_tokenizer(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "trained" if isinstance(value, dict | TrainedTokenizer) else None


Tokenizer = Annotated[
    Annotated[str, Tag("name")] | Annotated[TrainedTokenizer, Tag("trained")],
    Discriminator(
        _kind_of_tokenizer,
        custom_error_type="tokenizer",
        custom_error_message="give a Hub id, a folder, or {train: {vocab_size: 4096}}",
    ),
]
