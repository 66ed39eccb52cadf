"""Which documents a prepared corpus validates on, for whoever reads its sources again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regmix_hf.corpus.holdout import HoldoutRule, document_hash
from regmix_hf.files import read_as
from regmix_hf.recipe import Domain
from regmix_hf.study import names

#: In the folder of a domain whose validation is carved out of its training text.
DIVISION = "holdout.json"


@dataclass(frozen=True)
class Division:
    """How the documents of one domain are divided: those whose hash is below `below` are held out.

    `beyond` are the hashes of those that only the domain's smallness made validation: another domain, whose
    rule they do not meet, must be told of them.
    """

    below: int
    beyond: list[int]


@dataclass(frozen=True)
class Divided:
    """What the file `DIVISION` says."""

    plan: Division


@dataclass(frozen=True)
class _Cut:
    """What `validation.json` says of a last document that was cut."""

    cut: list[int] = field(default_factory=list)


def excluded_hashes(folder: Path, validated: Iterable[str], divisions: Iterable[Division]) -> np.ndarray:
    """Hashes of the documents that no domain of a corpus trains on, sorted.

    Args:
        folder: Of the corpus.
        validated: Domains with validation text of their own, which is written already.
        divisions: Of the others.
    """
    hashes = {document for division in divisions for document in division.beyond}
    for name in validated:
        with (folder / name / names.HELD_OUT).open(encoding="utf-8") as file:
            hashes.update(document_hash(json.loads(line)["text"].encode()) for line in file)
        # The last document may be cut: what must not be trained on is all of it.
        if (marker := folder / name / "validation.json").exists():
            hashes.update(read_as(marker, _Cut).cut)
    return np.array(sorted(hashes), dtype=np.uint64)


def rules_of(folder: Path, domains: Mapping[str, Domain]) -> dict[str, HoldoutRule]:
    """Return the rule of every training domain of a prepared corpus: what of its text is not trained on.

    Args:
        folder: Of the corpus.
        domains: The recipe's, all of them.
    """
    own = [name for name, domain in domains.items() if domain.validation_only or domain.validation_split]
    divisions = {name: read_as(folder / name / DIVISION, Divided).plan for name in domains if name not in own}
    excluded = excluded_hashes(folder, own, divisions.values())
    return {
        name: HoldoutRule(divisions[name].below if name in divisions else 0, excluded, max_tokens=0)
        for name, domain in domains.items()
        if not domain.validation_only
    }
