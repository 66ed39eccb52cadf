"""Runs as a regression sees them: those of a study, of tables, of others, and whether they compare."""

from regmix_hf.runs.results import Split
from regmix_hf.runs.runs import Runs, load_runs

__all__ = ["Runs", "Split", "load_runs"]
