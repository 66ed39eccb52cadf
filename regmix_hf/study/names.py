"""What the folders and files of a study are called."""

from __future__ import annotations

CORPUS, MIXTURES, PROXIES, REGRESSION = "1-corpus", "2-mixtures", "3-proxies", "4-regression"
MIXTURE, MODELS, EVALUATION, REPORT = "5-mixture", "6-models", "7-evaluation", "report"

#: Counts and hashes of a corpus; in its folder.
CORPUS_FACTS = "corpus.json"
MIXTURES_TABLE = "mixtures.parquet"
#: The tables of a stage that trains or scores.
RESULTS, TRAJECTORIES = "results.parquet", "trajectories.parquet"
#: What one run leaves in its folder, the result last.
RESULT, TRAJECTORY = "result.json", "trajectory.parquet"
#: The runs that a fit was made on, and what it came to.
FITTED_TABLE, FIT_SUMMARY = "runs.parquet", "summary.json"
CHOSEN_MIXTURE = "mixture.yaml"
#: Whose the folder is, and, where it was pulled, from where.
OWNER, PULLED = "study.json", ".pulled.json"

#: In the folder of a run or an evaluation: how far it is and who does it; what whoever does it has locked.
TOKENS, LOCK = ".tokens", ".lock"
#: What was printed meanwhile; kept when the run failed.
LOG = "log.txt"
#: Beside the runs' folders, that of whoever publishes them: its lock, and what it has collected.
PUBLISHER = ".publisher"
