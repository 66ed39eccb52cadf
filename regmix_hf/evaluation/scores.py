"""Scores of one model on tasks of lm-eval."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from regmix_hf.evaluation.held_out_text import HELD_OUT_TEXT
from regmix_hf.evaluation.model import LanguageModel, Score, finite
from regmix_hf.evaluation.tasks import LoadedTasks, TaskSet
from regmix_hf.training.answers import Bits

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

#: Resamples for standard errors of metrics that have no formula.
_BOOTSTRAP_SAMPLES = 1000


def score_tasks(
    model: LanguageModel,
    tasks: LoadedTasks,
    *,
    limit: int | None,
    num_fewshot: Sequence[int | None],
    seed: int,
) -> list[Score]:
    """Run lm-eval on one model.

    Args:
        model: The model.
        tasks: What `load_tasks` returned.
        limit: Documents of each task that are scored, `None` for all.
        num_fewshot: Every public task is run once with each of these; `None` leaves it to the task.
        seed: Decides which examples are shown.

    Returns:
        One row per task, metric and number of examples.
    """
    scores: dict[tuple[str, str | None, int, str], Score] = {}
    runs: list[tuple[TaskSet, int | None]] = [(tasks.local, None)] if tasks.local else []
    runs += [(tasks.public, shots) for shots in num_fewshot] if tasks.public else []
    lm = _wrap(model) if runs else None
    for task_set, shots in runs:
        task_set.show_examples(shots, seed)
        for score in _run(lm, task_set.loaded, limit):
            # A task that fixes its own number of examples comes out the same every time.
            scores[score.task, score.domain, score.num_fewshot, score.metric] = score
    return list(scores.values())


def _wrap(model: LanguageModel) -> HFLM:
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=str(model.folder),
        tokenizer=str(model.tokenizer),
        max_length=model.context_length,
        add_bos_token=False,
        prefix_token_id=model.eos_token_id,
        device=model.device,
        batch_size=model.batch_size,
        trust_remote_code=False,
    )


def _run(lm: HFLM, loaded: dict[str, Any], limit: int | None) -> list[Score]:
    from lm_eval.evaluator import evaluate

    with quiet():
        outcome = evaluate(
            lm,
            loaded,
            limit=limit,
            bootstrap_iters=_BOOTSTRAP_SAMPLES,
            log_samples=True,
            cache_requests=False,
        )
    return [score for task in outcome["results"] for score in _scores(task, outcome, loaded)]


def _scores(task: str, outcome: Mapping[str, Any], loaded: Mapping[str, Any]) -> Iterator[Score]:
    values = outcome["results"][task]
    domain = None
    if task in loaded["tasks"]:
        domain = (loaded["tasks"][task].get_config("metadata") or {}).get("domain")
    for key, value in values.items():
        metric, comma, variant = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(value, str):
            continue
        stderr = values.get(f"{metric}_stderr,{variant}")
        if metric == "bits_per_byte":
            nats, num_bytes = zip(*(row[metric] for row in outcome["samples"][task]), strict=True)
            stderr = Bits.of(np.array(nats), np.array(num_bytes)).stderr  # lm-eval leaves it out
        yield Score(
            task=HELD_OUT_TEXT if domain else task,
            domain=domain,
            num_fewshot=int(outcome["n-shot"].get(task) or 0),
            metric=metric if variant == "none" else key,
            value=finite(value),
            stderr=finite(stderr),
            num_samples=int(values.get("sample_len") or 0),
            higher_is_better=outcome["higher_is_better"].get(task, {}).get(metric),
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's bars off the terminal and its prints off stdout, which is for data."""
    from lm_eval.api import model, task
    from lm_eval.models import huggingface

    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))
        for module in (task, model, huggingface):
            stack.callback(setattr, module, "tqdm", module.tqdm)
            module.tqdm = partial(_without_bar, module.tqdm)
        yield


def _without_bar(tqdm: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return tqdm(*args, **{**options, "disable": True})
