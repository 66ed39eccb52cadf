"""Which reader a domain's text needs: the built-in one, that of files, or `datasets`."""

from __future__ import annotations

from typing import Literal

from regmix_hf.corpus.source import Source
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain
from regmix_hf.recipe.schema import PYTHON_ENVIRONMENT


def open_source(name: str, domain: Domain, purpose: Literal["train", "validation"]) -> Source:
    """Open the split of a domain that is trained on, or the one that is only validated on.

    Raises:
        DataError: There is no such source, or it cannot be reached.
    """
    split = domain.split if purpose == "train" else domain.validation_split or domain.split
    if domain.path == PYTHON_ENVIRONMENT:
        from regmix_hf.corpus.environment import EnvironmentSource

        if split != "train":
            raise DataError(f"domain {name!r}: {PYTHON_ENVIRONMENT!r} has no split {split!r}, only 'train'.")
        return EnvironmentSource(name, domain)
    from regmix_hf.corpus.file_source import FileSource
    from regmix_hf.corpus.local_files import find_files

    try:
        found = find_files(domain)
    except DataError as error:
        raise DataError(f"domain {name!r}, split {split!r}: {error.message}", error.hint) from None
    if found is not None:
        return FileSource(name, domain, split, found)
    from regmix_hf.corpus.dataset_source import open_data_set

    return open_data_set(name, domain, split)
