"""Prepare a corpus from the Hub in a process of its own: `prepare_from_hub.py RECIPE FOLDER BUDGETS`."""

import json
import sys
import time
from pathlib import Path

from regmix_hf.corpus import compressed, lines, patient_file, reading
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.recipe import Recipe

if __name__ == "__main__":
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(seconds / 100)  # between the tries of the client
    reading.COMMIT_BYTES = 20_000
    lines.ROWS = 32
    compressed.FIRST_CHUNK_BYTES = compressed.MAX_CHUNK_BYTES = 16_384
    patient_file.WAIT_UNIT_S = 0.001
    recipe, folder, budgets = sys.argv[1:]
    prepare_corpus(
        Recipe.model_validate_json(Path(recipe).read_text()), Path(folder), budgets=json.loads(budgets)
    )
