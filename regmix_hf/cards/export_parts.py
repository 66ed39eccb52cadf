"""What trainers are told, in parts that the explorer puts together again for the mixture that it shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from regmix_hf.exports import TRAINERS, MixtureToTrain, render_every, render_export

#: Numbers of a domain that a text may hold: shares of tokens and documents, how often it is read.
_KINDS = ("tokens", "documents", "repetition")
_MOST_DOMAINS = 3000
_MARK = re.compile("\ue000([a-z]+)([0-9]*)(\ue001\\d+)\ue002")
_WORDS = re.compile(r"(?m)^[ -]+|\ue000[^\ue002]*\ue002|[\n, ]|[^\n, \ue000]+")


@dataclass(frozen=True)
class _Marked(MixtureToTrain):
    """A mixture whose numbers tell which they are: six digits, no two alike in the first four.

    Attributes:
        order: Domains with a share, in this order.
        backwards: Whether later domains have smaller numbers.
    """

    order: tuple[str, ...] = ()
    backwards: bool = False

    def number(self, domain: str, kind: str) -> str:
        """The digits that stand for a number of a domain."""
        place = list(self.weights).index(domain)
        place = _MOST_DOMAINS - 1 - place if self.backwards else place
        return f"0.{1000 + _MOST_DOMAINS * _KINDS.index(kind) + place}31"

    @property
    def shares(self) -> dict[str, float]:
        return {name: float(self.number(name, "tokens")) for name in self.order}

    @property
    def document_shares(self) -> dict[str, float]:
        _ = super().document_shares  # refuses where lengths are not known
        return {name: float(self.number(name, "documents")) for name in self.order}

    def repetition(self, domain: str) -> float:
        return float(self.number(domain, "repetition"))


def export_parts(mixture: MixtureToTrain) -> tuple[dict[str, Any], dict[str, str]]:
    """Take the main file of each trainer apart.

    Text that all mixtures share stands as it is. A list with an entry per domain is `{"entries": [...],
    "between": text}`, entries as the weights are ordered; a number in one is a mark (`explorer/exports.js`).

    Args:
        mixture: What is known of the domains, all of them in `weights`, also those without a share.

    Returns:
        Trainer -> `title`, `file`, `beside`, `weighs`, `parts`; trainer -> why it is left out.
    """
    domains = tuple(mixture.weights)
    known = {name: value for name, value in vars(mixture).items() if name not in ("weights", "num_documents")}
    marked = _Marked(weights=dict.fromkeys(domains, 1 / len(domains)), order=domains, **known)
    written, errors = render_every(marked)
    left_out = {name: error.message for name, error in errors.items()}
    taken: dict[str, Any] = {}
    for name, files in written.items():
        parts = _parts(marked, name) if 1 < len(domains) <= _MOST_DOMAINS else None
        if parts is None or not _is_right(marked, name, parts):
            left_out[name] = "what it is told follows from more than shares."
            continue
        trainer = TRAINERS[name]
        taken[name] = {
            "title": trainer.title,
            "file": next(iter(files)),
            "beside": list(files)[1:],
            "weighs": trainer.weighs,
            "parts": [_without_numbers(part) for part in parts],
        }
    return taken, left_out


def _rendered(marked: _Marked, trainer: str) -> str:
    return next(iter(render_export(marked, trainer).values()))


def _tokens(marked: _Marked, trainer: str, order: Sequence[str]) -> list[str]:
    """The words of a text, with marks instead of numbers."""
    text = _rendered(replace(marked, order=tuple(order)), trainer)
    place = {name: k for k, name in enumerate(marked.weights)}
    marks = {}
    for name in order:
        for kind in _KINDS:
            number = marked.number(name, kind)
            marks[number] = f"\ue000{kind}\ue001{place[name]}\ue002"
            marks[f"{float(number):.4f}"] = f"\ue000{kind}4\ue001{place[name]}\ue002"
    pattern = r"(?<![\w.])0\.\d{4}(?:\d\d)?(?!\w)"
    return _WORDS.findall(re.sub(pattern, lambda found: marks.get(found[0], found[0]), text))


def _parts(marked: _Marked, trainer: str) -> list[Any] | None:
    """Compare the text for all domains with those for each alone; `None` where they do not fit together."""
    domains = tuple(marked.weights)
    tokens = _tokens(marked, trainer, domains)
    owners: list[set[int]] = [set() for _ in tokens]
    for k, name in enumerate(domains):
        at = -1
        for token in _tokens(marked, trainer, [name]):
            try:
                at = tokens.index(token, at + 1)
            except ValueError:
                return None
            owners[at].add(k)
    labels = [-1 if len(owner) == len(domains) else min(owner, default=None) for owner in owners]
    parts: list[Any] = []
    for is_same, group in groupby(zip(labels, tokens, strict=True), key=lambda pair: pair[0] == -1):
        words = list(group)
        if is_same:
            parts.append("".join(token for _, token in words))
        elif (found := _list(words, len(domains))) is None:
            return None
        else:
            parts += found
    return parts


def _list(words: list[tuple[int | None, str]], count: int) -> list[Any] | None:
    """A list with an entry per domain, and what ends it; words of no domain stand between two entries."""
    starts = [next((at for at, (owner, _) in enumerate(words) if owner == k), -1) for k in range(count)]
    if starts[0] != 0 or starts != sorted(set(starts)):
        return None
    entries, betweens, ends = [], set(), set()
    for start, stop in zip(starts, [*starts[1:], len(words)], strict=True):
        entry = words[start:stop]
        own = next((at for at, (owner, _) in enumerate(entry) if owner is None), len(entry))
        entries.append("".join(token for _, token in entry[:own]))
        if stop < len(words):
            betweens.add("".join(token for _, token in entry[own:]))
            ends.add("".join(token for owner, token in entry[own:] if owner is not None))
    if len(betweens) != 1 or len(ends) != 1 or not entries[-1].endswith(end := ends.pop()):
        return None
    entries[-1] = entries[-1].removesuffix(end)
    return [{"entries": entries, "between": betweens.pop()}, end]


def _is_right(marked: _Marked, trainer: str, parts: Sequence[Any]) -> bool:
    """Whether the parts, put together for some mixtures with other numbers, are what is written for them."""
    domains = tuple(marked.weights)
    orders = (domains[::-1], domains[::2], domains[1:], domains[:-1], domains[-1:])
    others = [replace(marked, order=order, backwards=True) for order in orders]
    return all(_joined(other, parts) == _rendered(other, trainer) for other in others)


def _joined(marked: _Marked, parts: Sequence[Any]) -> str:
    domains = list(marked.weights)

    def number(found: re.Match[str]) -> str:
        text = marked.number(domains[int(found[3][1:])], found[1])
        return f"{float(text):.4f}" if found[2] else text

    written = [
        part
        if isinstance(part, str)
        else part["between"].join(part["entries"][domains.index(name)] for name in marked.order)
        for part in parts
    ]
    return _MARK.sub(number, "".join(written))


def _without_numbers(part: str | Mapping[str, Any]) -> Any:
    """Marks in an entry speak of its own domain, which need not be said."""
    if isinstance(part, str):
        return part
    return {**part, "entries": [_MARK.sub("\ue000\\1\\2\ue002", entry) for entry in part["entries"]]}
