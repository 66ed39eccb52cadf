"""Tasks for lm-eval made of a corpus's own validation documents, so that it judges models with no network.

The files are ordinary lm-eval tasks under the tag `held_out_text`: with the folder they are written to,
`lm_eval --include_path FOLDER --tasks held_out_text` runs them outside of this package too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regmix_hf.errors import StudyError
from regmix_hf.files import write_json
from regmix_hf.study import names

#: The name that stands in a recipe for one task per domain.
HELD_OUT_TEXT = "held_out_text"

#: lm-eval's name of a metric -> how it combines documents.
_METRICS = {
    "bits_per_byte": "bits_per_byte",
    "byte_perplexity": "weighted_perplexity",
    "word_perplexity": "weighted_perplexity",
}


def task_name(domain: str) -> str:
    """Name of the lm-eval task over one domain's validation documents."""
    return f"{HELD_OUT_TEXT}_{domain}"


def write_tasks(corpus: Path, domains: Iterable[str], folder: Path) -> None:
    """Write one task file per domain, `held_out_text_<domain>.yaml`, into a folder that then holds no other.

    lm-eval reads all that is there, and a task may name code (`!function`). The corpus holds
    `<domain>/validation.jsonl`, one `{"text": ...}` per line.

    Raises:
        StudyError: A domain has no validation documents on disk.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for domain in domains:
        documents = corpus / domain / names.HELD_OUT
        if not documents.exists():
            raise StudyError(f"{documents} is not there.", "run `regmix prepare` first")
        # JSON is YAML, and its strings stay strings: lm-eval reads YAML 1.1, where a bare `no` is false.
        write_json(folder / f"{task_name(domain)}.yaml", _task(domain, documents))


def _task(domain: str, documents: Path) -> dict[str, Any]:
    return {
        "task": task_name(domain),
        "tag": HELD_OUT_TEXT,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(documents.resolve())}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        # The column's name, not a template: what a template renders to "[...]" is evaluated as Python.
        "doc_to_target": "text",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": metric, "aggregation": aggregation, "higher_is_better": False}
            for metric, aggregation in _METRICS.items()
        ],
        "metadata": {"version": 1.0, "domain": domain},
    }
