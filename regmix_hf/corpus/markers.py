"""What vouches for the parts of a corpus that are done, each in a file beside the part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from regmix_hf.files import read_as
from regmix_hf.study.corpus_facts import DomainFacts, ReadFacts, SplitFacts

T = TypeVar("T")


@dataclass(frozen=True)
class Marker:
    """What every marker says: of what that which it vouches for was made."""

    identity: str


@dataclass(frozen=True)
class Trained:
    """What `train.json` says beside; version 0.1 read everything to its end."""

    facts: DomainFacts
    to_the_end: bool = True


@dataclass(frozen=True)
class Validated:
    """What `validation.json` says beside."""

    validation: SplitFacts
    read: dict[Literal["train", "validation"], ReadFacts] = field(default_factory=dict)


def said_by(marker: Path, identity: str, says: type[T]) -> T | None:
    """What the marker says, if it was written under this identity: under another it may be of other shape.

    Raises:
        StudyError: It is damaged.
    """
    if not marker.exists() or read_as(marker, Marker).identity != identity:
        return None
    return read_as(marker, says)
