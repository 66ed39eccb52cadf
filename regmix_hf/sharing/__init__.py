"""A study on the Hub: what each of its repositories holds, publishing it, and fetching it back.

How requests are made safe is in `regmix_hf.hub`; which files belong where is here.
"""

from regmix_hf.sharing.pull import DEFAULT_PARTS, Pulled, pull_study
from regmix_hf.sharing.push import PART_NAMES, Push, push_study

__all__ = ["DEFAULT_PARTS", "PART_NAMES", "Pulled", "Push", "pull_study", "push_study"]
