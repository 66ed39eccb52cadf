"""A mixture with what trainers need to know besides its weights: where text is, how long documents are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from regmix_hf.errors import MixtureError
from regmix_hf.recipe import Domain
from regmix_hf.recipe.schema import PYTHON_ENVIRONMENT

#: What one sample of a trainer's data is: a block of as many tokens as every other, or a document.
Samples = Literal["blocks", "documents"]
_TEXTS = frozenset((".txt", ".md", ".rst"))


@dataclass(frozen=True)
class MixtureToTrain:
    """A mixture, and what is known of its domains.

    Attributes:
        name: What it is called.
        weights: Share of the training tokens of each domain; domains without a share are left out.
        num_train_tokens: Of the run that it was chosen for; `None` when nobody said.
        context_length: Tokens of a block; `None` when nobody said.
        tokenizer: Hub id or folder of the tokenizer; `None` when nobody said.
        seed: Of the order in which domains are drawn.
        domains: The recipe's words on the text of each domain; empty when there is no recipe.
        tokens_per_document: Mean number of tokens of a document, its end-of-text token included.
        num_documents: Documents that each domain has, where that was counted.
        location: Where tokenized files lie: a path with `{domain}` in it; `None`: a folder per domain.
        blocks: The file of the prepared blocks of each domain, where all of its text is prepared.
        samples: What one sample of the files is, for trainers that take both.
    """

    name: str
    weights: Mapping[str, float]
    num_train_tokens: int | None = None
    context_length: int | None = None
    tokenizer: str | None = None
    seed: int = 0
    domains: Mapping[str, Domain] = field(default_factory=dict)
    tokens_per_document: Mapping[str, float] = field(default_factory=dict)
    num_documents: Mapping[str, int] = field(default_factory=dict)
    location: str | None = None
    blocks: Mapping[str, str] | None = None
    samples: Samples | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Weights above 0, largest first, with a sum of 1 to the last bits: samplers ask for that."""
        present = sorted(self.weights.items(), key=lambda item: -item[1])
        total = math.fsum(self.weights.values())
        return {name: weight / total for name, weight in present if weight > 0}

    @property
    def document_shares(self) -> dict[str, float]:
        """The share of documents that gives each domain its share of tokens.

        A trainer that draws a domain with probability `q` gets `q` documents of `m` tokens on average, so
        tokens in proportion to `q m`: for shares `w` of the tokens, `q` is `w / m`, normalised.

        Raises:
            MixtureError: The mean length of a domain's documents is not known.
        """
        unknown = [name for name in self.shares if not self.tokens_per_document.get(name)]
        if unknown:
            raise MixtureError(
                f"how many tokens a document of {unknown[0]!r} has is not known, so its share of the "
                "documents cannot be told from its share of the tokens.",
                f"give --tokens-per-document {unknown[0]}=NUMBER"
                + ("" if len(unknown) == 1 else f" and the same for {', '.join(unknown[1:])}"),
            )
        drawn = {name: weight / self.tokens_per_document[name] for name, weight in self.shares.items()}
        total = sum(drawn.values())
        return {name: share / total for name, share in drawn.items()}

    def repetition(self, domain: str) -> float:
        """How often a domain may be read: as the run that the mixture was chosen for does, at least once."""
        available = self.num_documents.get(domain, 0) * self.tokens_per_document.get(domain, 0.0)
        if not available or self.num_train_tokens is None:
            return 1.0
        return max(1.0, math.ceil(100 * self.shares[domain] * self.num_train_tokens / available) / 100)

    def place(self, domain: str) -> str:
        """Where the tokenized files of a domain lie.

        Raises:
            MixtureError: The location names no domain.
        """
        location = self.location or "{domain}"
        if "{domain}" not in location:
            raise MixtureError(
                f"--location {location!r} is the same for every domain.", "write e.g. /data/{domain}"
            )
        return location.replace("{domain}", domain)

    def source(self, domain: str) -> Domain:
        """The recipe's words on the text of a domain.

        Raises:
            MixtureError: There is no recipe, or the text is none that another program could read.
        """
        if domain not in self.domains:
            raise MixtureError(
                f"where the text of {domain!r} lies is not known: a fit on tables has weights only.",
                "export from a recipe, or choose a trainer that reads tokenized files",
            )
        return self.domains[domain]

    def load_arguments(self, domain: str) -> dict[str, object]:
        """What `datasets.load_dataset` takes for the text of a domain."""
        given = self.source(domain)
        if given.path == PYTHON_ENVIRONMENT:
            raise MixtureError(
                f"the text of {domain!r} is read from the Python environment, which no other program can.",
                "choose a trainer that reads tokenized files",
            )
        names = ("path", "name", "data_dir", "data_files", "revision", "split")
        arguments = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
        # Texts are read by lines if nobody says how; what is no text refuses to be told.
        if given.path == "text" or given.sample_by != "document" or _holds_texts(given):
            arguments["sample_by"] = given.sample_by
        return arguments


def _holds_texts(domain: Domain) -> bool:
    """Whether it is a folder of texts alone."""
    folder = (domain.folder or Path()) / domain.path
    folder = Path(domain.path) if Path(domain.path).is_dir() else folder
    files = [file for file in folder.rglob("*") if file.is_file()] if domain.data_files is None else []
    return bool(files) and all(_TEXTS.intersection(file.suffixes) for file in files)


def parse_lengths(texts: list[str]) -> dict[str, float]:
    """Read `NAME=TOKENS` pairs.

    Raises:
        MixtureError: One is none, or is no positive number.

    >>> parse_lengths(["web=812.5", "code=2000"])
    {'web': 812.5, 'code': 2000.0}
    """
    lengths = {}
    for text in (part for given in texts for part in given.split(",")):
        name, _, number = text.partition("=")
        if re.fullmatch(r"[0-9.]+(e[0-9]+)?", number) is None or not float(number) > 0:
            raise MixtureError(f"--tokens-per-document {text!r} is no length.", "write e.g. web=812")
        lengths[name] = float(number)
    return lengths


def parse_samples(text: str | None) -> Samples | None:
    """Read what a sample is.

    Raises:
        MixtureError: It is neither `blocks` nor `documents`.
    """
    match text:
        case None | "blocks" | "documents":
            return text
        case _:
            raise MixtureError(f"--samples {text!r} is no kind of samples.", "write blocks or documents")
