"""A first recipe for text that lies in a folder: which domains, how much of each, what this machine can do.

`look` says what a few files hold, `domains` makes domains of folders and files, `scale` decides how large
models and runs may be, `writing` fills in the recipe, checks it as `validate` does and puts it down.
"""

from regmix_hf.draft.domains import Findings, FoundDomain, find_domains
from regmix_hf.draft.writing import Draft, write_draft

__all__ = ["Draft", "Findings", "FoundDomain", "find_domains", "write_draft"]
