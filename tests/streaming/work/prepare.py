"""Prepare a corpus in a process that may be killed; run by `runpy` with RECIPE, FOLDER and BUDGETS."""

from pathlib import Path

from regmix_hf.corpus import compressed, lines, patient_file, reading, row_groups
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.recipe import Recipe

reading.COMMIT_BYTES = 20_000
lines.ROWS = row_groups._ROWS = 32
compressed.FIRST_CHUNK_BYTES = compressed.MAX_CHUNK_BYTES = 16_384
patient_file.WAIT_UNIT_S, patient_file._SILENCE_S = 0.001, 0.9
prepare_corpus(Recipe.model_validate_json(RECIPE), Path(FOLDER), budgets=BUDGETS)  # noqa: F821
