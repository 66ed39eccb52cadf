"""The versions of this package and of others, as results and reports of bugs name them."""

from functools import cache
from importlib import metadata

VERSION = "0.1.0"


@cache
def installed(package: str) -> str:
    """Version of an installed package; its metadata is parsed once a process, not once a run.

    Raises:
        importlib.metadata.PackageNotFoundError: There is no such package.
    """
    return metadata.version(package)
