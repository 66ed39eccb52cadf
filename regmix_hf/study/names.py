"""What the folders and files of a study are called; its repositories keep the names."""

from __future__ import annotations

CORPUS, MIXTURES, PROXIES, REGRESSION = "1-corpus", "2-mixtures", "3-proxies", "4-regression"
MIXTURE, MODELS, EVALUATION, REPORT = "5-mixture", "6-models", "7-evaluation", "report"

#: Counts and hashes of a corpus; in its folder.
CORPUS_FACTS = "corpus.json"
#: The documents that a domain validates on; in its folder.
HELD_OUT = "validation.jsonl"
#: Beside the domains' folders: the right answers that models are scored on, all choices that they are judged
#: by, and the weights they start from.
TASKS, METRICS, CHECKPOINTS = ".tasks", ".metrics", ".checkpoints"
MIXTURES_TABLE = "mixtures.parquet"
#: The tables of a stage that trains or scores.
RESULTS, TRAJECTORIES = "results.parquet", "trajectories.parquet"
#: What one run leaves in its folder, the result last.
RESULT, TRAJECTORY = "result.json", "trajectory.parquet"
#: In the folder of a proxy's run: its model, where it is kept, and what that was asked later.
MODEL, LATER = "kept-model", "asked-later"
#: What experts give the tokens of every target: of one run in its folder, of all of them beside the tables.
EXPERTS = "experts.safetensors"
#: What a fit came to; how well every estimator predicts, what it predicted, and both by number of runs.
FIT_SUMMARY = "summary.json"
QUALITY, PREDICTIONS, LEARNING_CURVE = "quality.parquet", "predictions.parquet", "learning_curve.parquet"
#: The runs that a fit was made on and is judged by, and those of other sizes and lengths fitted beside them.
FITTED_RUNS, RUNS_BESIDE = "runs.parquet", "runs_beside.parquet"
#: What a fit on tables was asked and read, and what a choice from it was asked; in the folders of both.
FIT_RECORD, CHOICE_RECORD = "fit.json", "choice.json"
FIT_TABLES = (QUALITY, PREDICTIONS, LEARNING_CURVE, FITTED_RUNS)
#: The chosen mixture, and beside it what it changes, domain by domain.
CHOSEN_MIXTURE, CHOSEN_TABLE = "mixture.yaml", "mixture.parquet"
#: What was promised for the final mixtures beside what was measured.
PROMISES = "promises.json"
#: The report, and a page to explore mixtures.
PAGE, EXPLORER = "README.md", "explorer.html"
#: Whose the folder is, and, where it was pulled, from where.
OWNER, PULLED = "study.json", ".pulled.json"
#: What was checked last before work, with what.
CHECKED = ".checked.json"

#: In the folder of a run or an evaluation: how far it is and who does it; what whoever does it has locked,
#: its lease, and where it works.
TOKENS, LOCK, LEASE, ROOM = ".tokens", ".lock", ".lease", ".room"
#: How many blocks at once a final run is tried with, after more did not fit into memory.
MICRO_BATCH = ".micro_batch.json"
#: What was printed meanwhile; kept when the run failed.
LOG = "log.txt"
#: Beside the runs' folders, that of whoever publishes them: its lock, and what it has collected.
PUBLISHER = ".publisher"
#: In the study's folder: verbs whose stage was begun, and what it made not published since.
UNPUBLISHED = ".unpublished"

#: In a repository only: the markers of the stages that made what it holds.
STAGES = "stages.json"
#: In the repository of the mixture, where the tables of two stages lie side by side.
FINAL_RESULTS, FINAL_TRAJECTORIES = "final_results.parquet", "final_trajectories.parquet"
SCORES = "scores.parquet"
