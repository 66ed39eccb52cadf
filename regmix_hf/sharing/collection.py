"""The collection that holds a study's repositories together on the Hub."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import Collection

from regmix_hf.hub import Hub, Repository, of_type
from regmix_hf.study.address import Address

#: The Hub takes titles of fewer than 60 characters.
_LONGEST_TITLE = 59


def collect_repositories(
    hub: Hub, address: Address, repositories: Sequence[Repository], *, private: bool
) -> str:
    """Put repositories into the study's collection, which is made if it is missing; return its address.

    Safe to repeat: what is there already is left as it is.

    Raises:
        HubError: Not permitted, or the Hub fails for longer than patience.
    """
    first, title = repositories[-1], f"{address.name}: data mixture"[:_LONGEST_TITLE]
    kind = "datasets" if first.kind == "dataset" else "models"
    found = hub.ask(
        first,
        lambda: [
            _slug(collection)
            for collection in hub.api.list_collections(owner=address.namespace, item=f"{kind}/{first.id}")
            if collection.title == title
        ],
    )
    if found:
        slug = found[0]
    else:
        slug = hub.ask(
            first,
            lambda: _slug(
                hub.api.create_collection(title, namespace=address.namespace, private=private, exists_ok=True)
            ),
        )
    collection = hub.ask(first, lambda: hub.api.get_collection(slug))
    there = {(item.item_type, item.item_id) for item in collection.items}
    for repository in repositories:
        if (repository.kind, repository.id) not in there:
            _add(hub, slug, repository)
    return f"{hub.api.endpoint}/collections/{slug}"


def _slug(collection: Collection) -> str:
    return of_type(collection.slug, str, "the name of a collection")


def _add(hub: Hub, slug: str, repository: Repository) -> None:
    hub.ask(
        repository, lambda: hub.api.add_collection_item(slug, repository.id, repository.kind, exists_ok=True)
    )
