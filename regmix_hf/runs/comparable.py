"""Whether runs may stand together in one table, and how their tables become one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from regmix_hf.errors import HubError
from regmix_hf.runs.experts import Experts
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts

Kind = Literal["tokenizer", "corpus", "scale"]


@dataclass(frozen=True, eq=False)
class Swarm:
    """The runs of a study, with what decides whether their losses can be compared with others.

    Attributes:
        name: What to call it in messages.
        corpus: What they were trained and measured on; `None` where nobody says.
        results: Their table.
        experts: What is known of the experts among them, where that came with them.
    """

    name: str
    corpus: CorpusFacts | None
    results: pd.DataFrame
    experts: Experts | None = None


def check_comparable(first: Swarm, other: Swarm, *, allow: Collection[str], hint: str) -> None:
    """Refuse runs whose losses cannot be compared with those of `first`.

    The others may have fewer domains, and others to validate on. What both have must be the same text, and
    runs of which nobody says what they were trained on differ from all.

    Args:
        first: The runs that are there.
        other: Those that come beside them.
        allow: In what they may differ: `tokenizer`, `corpus`, `scale`.
        hint: What to do about it; `{kind}` stands for the kind of difference.

    Raises:
        HubError: They differ in something else.
    """
    kinds: dict[Kind, str | None] = {
        "tokenizer": _other_tokenizer(first.corpus, other.corpus),
        "corpus": _other_text(first.corpus, other.corpus),
        "scale": _other_scale(first.results, other.results),
    }
    for kind, difference in kinds.items():
        if difference is not None and kind not in allow:
            raise HubError(
                f"{other.name} holds runs of another {kind} than {first.name}: {difference}.",
                "their losses cannot be compared; " + hint.format(kind=kind),
            )


def below_each_other(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables below each other; a domain that one of them does not have weighs 0 there."""
    return weighed(pd.concat(tables, ignore_index=True))


def weighed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with weight 0 where a row says nothing of a domain; itself without such rows."""
    weights = [column for column in table.columns if column.startswith("weight/")]
    if not table[weights].isna().any(axis=None):
        return table
    return table.assign(**{column: table[column].fillna(0.0) for column in weights})


def _other_tokenizer(first: CorpusFacts | None, other: CorpusFacts | None) -> str | None:
    names = [facts.tokenizer_sha256[:12] if facts else None for facts in (first, other)]
    return None if names[0] == names[1] is not None else f"{names[1]}, not {names[0]}"


def _other_text(first: CorpusFacts | None, other: CorpusFacts | None) -> str | None:
    if first is None or other is None:
        return "nobody says which"
    if (first.context_length, first.eos_token_id) != (other.context_length, other.eos_token_id):
        return "its blocks have another length, or another token at the end of a text"
    for name, facts in other.domains.items():
        if name not in first.domains:
            if facts.train is not None:
                return f"it trains on {name!r}, of which there is no text here"
        elif not _is_same(facts, first.domains[name]):
            return f"the text of {name!r} is another"
    return None if first.domains.keys() & other.domains.keys() else "they have no domain in common"


def _is_same(one: DomainFacts, other: DomainFacts) -> bool:
    """Whether the parts of a domain that both have are the same text."""
    trained = one.train is None or other.train is None or one.train.sha256 == other.train.sha256
    return trained and one.validation.sha256 == other.validation.sha256


def _other_scale(first: pd.DataFrame, other: pd.DataFrame) -> str | None:
    known = _scales(first)  # of a ladder several
    others = [scale for scale in _scales(other) if scale not in known]
    return f"{others[0]}, not {' or '.join(known)}" if others else None


def _scales(results: pd.DataFrame) -> list[str]:
    if not {"scale", "num_train_tokens"} <= set(results.columns):
        return ["a size that nobody says"]
    ended = results[results["status"] != "failed"]  # a failed run says nothing of its scale
    pairs = ended[["scale", "num_train_tokens"]].drop_duplicates()
    return [f"{scale}, {int(tokens):,} tokens" for scale, tokens in pairs.itertuples(index=False)]
