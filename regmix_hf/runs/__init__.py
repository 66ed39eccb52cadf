"""Runs as a regression sees them: those of a study, of two CSV files, of others, and whether they compare."""

from regmix_hf.runs.runs import Runs, Split, load_runs

__all__ = ["Runs", "Split", "load_runs"]
