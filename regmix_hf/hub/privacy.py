"""What is for nobody but the person who publishes: found in words before they are published."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pandas as pd
from huggingface_hub import constants, get_token

from regmix_hf.errors import HubError

PUBLIC_HUB = "https://huggingface.co"
#: The shortest name of a machine that is looked for: shorter ones are words, too.
_SHORTEST_NAME = 5

_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{30,}|://[^/\s:@]+:[^/\s@]+@")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>`)\]}]+", re.IGNORECASE)
_SIGNED = re.compile(
    r"[?&](?:[\w-]*(?:token|signature|credential|secret|password)|(?:api[_-]?)?key|auth|sig|googleaccessid)=",
    re.IGNORECASE,
)
#: A path from the root (of two parts, or of one that is a whole value), from a home or from a drive.
_PATH = re.compile(
    r"(?<![\w:./~<>\\*-])(?:/[\w.@%+-]+(?:/[\w.@%+*?{}\[\]-]+)+|~[\w.-]*/[\w.-]+|[A-Za-z]:\\[\w.\\-]+)"
    r"|(?<=[:-] )/[A-Za-z][\w.-]*(?=/?\s*$)|(?<=[\"'])/[A-Za-z][\w.-]*(?=/?[\"'])",
    re.MULTILINE,
)
#: Schemes before the name of a machine.
_NETWORK = ("http", "https", "ftp", "sftp", "ssh", "s3", "hdfs", "webhdfs")
_INSIDE = (".local", ".localhost", ".internal", ".intranet", ".lan", ".corp", ".home", ".home.arpa")


def require_public_words(text: str, place: str) -> None:
    """Refuse to publish what holds a secret, or says something of the machine and the network it comes from.

    Raises:
        HubError: It does. The message shows no secret.
    """
    for found in _private(text):
        raise HubError(
            f"{place} holds {found}; nothing was published.",
            "take it out of the recipe: relative paths and public addresses are true elsewhere, too, and a "
            "token belongs into HF_TOKEN",
        )


def require_public_table(table: pd.DataFrame, place: str) -> None:
    """Refuse a table in which a text is private, see `require_public_words`.

    Raises:
        HubError: One is.
    """
    for column in table.columns:
        if pd.api.types.is_string_dtype(table[column]) or table[column].dtype == object:
            words = [value for value in table[column].unique() if isinstance(value, str)]
            require_public_words("\n".join(words), f"{place}: the column {column!r}")


def _private(text: str) -> Iterator[str]:
    token = get_token()
    if token is not None and token in text:
        yield "your token"
    if _SECRET.search(text):
        yield "what looks like a token or a password in an address"
    for match in _ADDRESS.finditer(text):
        address = match[0]
        if _SIGNED.search(address):
            yield "an address that is signed, or has a key in it"
        if address.lower().startswith("file:"):
            yield f"a path of this machine, {address!r}"
        if _is_inside(address):
            yield f"the address of a machine that only some can reach, {address!r}"
    endpoint = urlsplit(constants.ENDPOINT).netloc
    if endpoint != urlsplit(PUBLIC_HUB).netloc and endpoint in text:
        yield f"the address of the Hub that you use, {endpoint!r}"
    name = socket.gethostname()
    if len(name) >= _SHORTEST_NAME and name != "localhost" and re.search(rf"\b{re.escape(name)}\b", text):
        yield f"the name of this machine, {name!r}"
    if path := _PATH.search(text):
        yield f"a path of this machine, {path[0]!r}"


def _is_inside(address: str) -> bool:
    if address.partition(":")[0].lower() not in _NETWORK:
        return False
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return False
    if host.replace(".", "").isdigit() or ":" in host:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True
    is_bucket = address.lower().startswith("s3:")
    return host == "localhost" or host.endswith(_INSIDE) or ("." not in host and not is_bucket)
