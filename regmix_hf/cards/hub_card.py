"""What the cards of all repositories share: the block of metadata, links, and words for what is published."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CardData

from regmix_hf.cards.rendering import render_template
from regmix_hf.hub import Repository
from regmix_hf.hub.privacy import PUBLIC_HUB
from regmix_hf.recipe import Domain, Recipe
from regmix_hf.recipe.schema import PYTHON_ENVIRONMENT
from regmix_hf.study.address import Address
from regmix_hf.tables import Prefix, by_domain

#: On every card, so that all of them are found together.
TAGS = ["regmix", "data-mixture", "pretraining"]
#: Powers of ten from a thousand on, as the Hub writes them.
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, eq=False)
class Card:
    """The card of a repository.

    Attributes:
        address: Of the study, or of the fit on tables.
    """

    address: Address

    @property
    def metadata(self) -> CardData:
        """The block at the top of the card, which the Hub reads."""
        raise NotImplementedError

    def written(self, template: str, version: str, **values: Any) -> str:
        """Fill in the template and put the metadata in front of it."""
        metadata = self.metadata
        common = {"card": self, "version": version, "address": self.address, "link": link}
        licence = licence_words(metadata.get("license"))
        body = render_template(template, **common, licence=licence, **values)
        return f"---\n{metadata.to_yaml()}\n---\n\n{body}"


def url(repository: Repository) -> str:
    """Where everybody looks at a repository, whatever address its publisher has for the Hub."""
    return f"{PUBLIC_HUB}/{repository.path}"


def link(repository: Repository) -> str:
    """A link to a repository, in Markdown."""
    return f"[{repository.id}]({url(repository)})"


def source_id(domain: Domain, sources: Collection[str]) -> str | None:
    """The dataset on the Hub that a domain's text comes from, of those that are there; `None` elsewhere."""
    return domain.path if domain.path in sources else None


def hub_sources(recipe: Recipe, is_public: Callable[[Repository], bool]) -> frozenset[str]:
    """The datasets that texts come from and everybody finds on the Hub.

    A folder may be called as a dataset would be (`data/web`), and may be gone by now, so the Hub is asked.
    """
    paths = {domain.path for domain in recipe.domains.values()}
    named = {path for path in paths if _HUB_ID.fullmatch(path) and not Path(path).exists()}
    return frozenset(path for path in named if is_public(Repository("dataset", path)))


def source_words(domain: Domain, sources: Collection[str]) -> str:
    """Where a domain's text comes from: the dataset, its subset and its revision, or the kind of source."""
    hub_id = source_id(domain, sources)
    if hub_id is None:
        if domain.path == PYTHON_ENVIRONMENT:
            return f"its publisher's Python environment: `{domain.name}`"
        return f"files of its publisher (`{domain.path}`)" + (f", `{domain.name}`" if domain.name else "")
    subset = f", `{domain.name}`" if domain.name else ""
    revision = f"revision `{domain.revision}`" if domain.revision else "no revision pinned"
    return f"[{hub_id}]({url(Repository('dataset', hub_id))}){subset}, {revision}"


def licence_words(licence: str | None) -> str:
    """What may be done with the files, as far as the publisher said."""
    if licence is None:
        return "Its publisher has not stated a licence."
    return f"Licence: `{licence}`, as its publisher states."


def size_category(num_rows: int) -> str:
    """The Hub's word for a number of rows.

    >>> size_category(512), size_category(25_000), size_category(12_000_000)
    ('n<1K', '10K<n<100K', '10M<n<100M')
    """
    at = bisect([10**power for power in range(3, 3 + len(_SIZES))], num_rows)
    if at == len(_SIZES):
        return f"n>{_SIZES[-1]}"
    return f"{_SIZES[at - 1]}<n<{_SIZES[at]}" if at else f"n<{_SIZES[0]}"


def configs(files: Mapping[str, str], default: str) -> list[dict[str, Any]]:
    """The metadata by which `load_dataset(repository, config)` finds its file."""
    return [
        {"config_name": name, "data_files": file, **({"default": True} if name == default else {})}
        for name, file in files.items()
    ]


def span(frame: Any, prefix: Prefix, spec: str) -> dict[str, str]:
    """Lowest and highest value of every domain, in words; a domain without a value is left out."""
    values = by_domain(frame, prefix).dropna(axis="columns", how="all")
    return {str(name): f"{values[name].min():{spec}} to {values[name].max():{spec}}" for name in values}
