"""The kinds of text of the built-in source, by the name a recipe gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from regmix_hf.corpus.environment import files, prose
from regmix_hf.corpus.environment.arithmetic import arithmetic
from regmix_hf.errors import DataError, did_you_mean
from regmix_hf.recipe import Domain

#: `name` in the recipe to a function that generates the documents of that kind, without bound.
KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "standard_library": lambda: files.texts(files.standard_library(), ".py"),
    "installed_packages": lambda: files.texts(files.installed_packages(), ".py"),
    "docstrings": prose.docstrings,
    "package_readmes": prose.package_readmes,
    "licenses": prose.licenses,
    "c_headers": lambda: files.texts(files.everything(), ".h", ".hpp", ".hh", ".cuh"),
    "yaml": lambda: files.texts(files.installed_packages(), ".yaml", ".yml"),
    "arithmetic": arithmetic,
    "language_reference": prose.language_reference,
}


def kind_of(name: str, domain: Domain) -> str:
    """The kind of text that a domain of the built-in source, called `name`, asks for.

    Raises:
        DataError: There is no such kind.
    """
    if domain.name is None or domain.name not in KINDS:
        raise DataError(
            f"domain {name!r}: {domain.path!r} has no text called {domain.name!r}.",
            f"set its `name`; {did_you_mean(domain.name or '', KINDS)}",
        )
    return domain.name
