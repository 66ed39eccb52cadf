"""English in a Python environment: docstrings, descriptions of packages, licences, the language reference."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from email.parser import Parser

from regmix_hf.corpus.environment import files

#: Shorter docstrings say a name again more often than they explain.
_MIN_DOCSTRING_CHARS = 200
#: Modules that explain less than this share of themselves are not parsed: most of the time would go there.
_MIN_QUOTED_SHARE = 0.35
_LICENSE = re.compile(r"(licen[cs]e|copying|notice|copyright|authors)", re.IGNORECASE)


def docstrings() -> Iterator[str]:
    """Docstrings of modules, classes and functions, of installed packages and the standard library."""
    for source in files.texts(files.installed_packages() + files.standard_library(), ".py"):
        quoted = sum(map(len, source.split('"""')[1::2]))
        if quoted > _MIN_QUOTED_SHARE * len(source):
            yield from _docstrings_of(source)


def package_readmes() -> Iterator[str]:
    """What packages say of themselves: the long description in their metadata."""
    for metadata in files.contents(
        path
        for path in files.paths(files.installed_packages())
        if path.name == "METADATA" and path.parent.suffix == ".dist-info"
    ):
        message = Parser().parsestr(metadata)
        yield str(message.get_payload()) or _indented(message.get("Description", ""))


def licenses() -> Iterator[str]:
    """Licence texts and notices of packages and of Python, each text once."""
    yield from files.contents(
        path
        for path in files.paths(files.installed_packages() + files.standard_library())
        if path.suffix.lower() in {"", ".txt", ".md", ".rst", ".apache", ".bsd", ".mit", ".apache2"}
        and (_LICENSE.match(path.name) or path.parent.name in {"licenses", "license_files", "LICENSES"})
    )


def language_reference() -> Iterator[str]:
    """Python's language reference, topic by topic, as `help("assignment")` shows it."""
    from pydoc_data.topics import topics

    yield from topics.values()


def _docstrings_of(source: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        try:
            tree = ast.parse(source)
        except (SyntaxError, RecursionError):  # templates, and code of another version of Python
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None and len(text) >= _MIN_DOCSTRING_CHARS:
                yield inspect.cleandoc(text)


def _indented(description: str) -> str:
    """A description in the metadata's head: its lines are indented by eight columns."""
    return "\n".join(
        line.removeprefix("        ").removeprefix("       |") for line in description.splitlines()
    )
