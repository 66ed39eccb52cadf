"""The Hub as a shared shelf: publish files atomically, merge tables by key, fetch what others published.

Nothing here knows what is published. All of it holds when requests fail at any moment: see `Hub` for what is
tried again, `publish` for why nothing is done twice, `fetch` for what may come in.
"""

from regmix_hf.hub.answers import of_type
from regmix_hf.hub.checks import TableLimits, parse_json, read_table
from regmix_hf.hub.connection import Hub
from regmix_hf.hub.fetch import Expected, fetch, matching
from regmix_hf.hub.merge import merge_rows, parquet_bytes, remote_table
from regmix_hf.hub.publish import Draft, Publication, Published, changes, draft, publish
from regmix_hf.hub.repository import Reference, RemoteFile, Repository, Snapshot
from regmix_hf.hub.retries import Patience

__all__ = [
    "Draft",
    "Expected",
    "Hub",
    "Patience",
    "Publication",
    "Published",
    "Reference",
    "RemoteFile",
    "Repository",
    "Snapshot",
    "TableLimits",
    "changes",
    "draft",
    "fetch",
    "matching",
    "merge_rows",
    "of_type",
    "parquet_bytes",
    "parse_json",
    "publish",
    "read_table",
    "remote_table",
]
