"""The tasks that a study's models are scored on, prepared once with its corpus."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.evaluation.answers import Questions, prepare_answers, questions_of
from regmix_hf.evaluation.tasks import load_each
from regmix_hf.progress import Progress
from regmix_hf.readable import short
from regmix_hf.recipe import Recipe
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts


def load_questions(recipe: Recipe) -> dict[str, Questions]:
    """Load the documents of `proxy.tasks` and find their right answers, which needs no tokenizer.

    Raises:
        RecipeError: lm-eval has no task of a name.
        DataError: Documents cannot be had, or a task has no right answer that is a text.
    """
    loaded = load_each(recipe.proxy.tasks, recipe.evaluation.include_path, "proxy.tasks")
    return {
        name: questions_of(name, tasks, limit=recipe.proxy.task_limit, seed=recipe.seed)
        for name, tasks in loaded.items()
    }


def prepare_tasks(
    questions: Mapping[str, Questions], corpus: Path, facts: CorpusFacts, progress: Progress
) -> CorpusFacts:
    """Write what models are asked beside the blocks of a corpus, and count it in `corpus.json`.

    Args:
        questions: Of `load_questions`.
        corpus: The folder of the corpus, whose blocks are there.
        facts: What it holds.
        progress: Told how much there is, and what was left out.

    Returns:
        What it holds now.

    Raises:
        DataError: Every answer of a task is longer than a model reads.
    """
    shutil.rmtree(corpus / names.TASKS, ignore_errors=True)
    if not questions:
        return facts
    tokenizer = Corpus(corpus).tokenizer()
    tasks = {
        name: prepare_answers(
            asked,
            name,
            tokenizer,
            corpus,
            context_length=facts.context_length,
            eos_token_id=facts.eos_token_id,
        )
        for name, asked in questions.items()
    }
    facts = facts.model_copy(update={"tasks": tasks})
    facts.save(corpus)
    progress.note(
        f"{sum(task.num_documents for task in tasks.values()):,} questions of {len(tasks)} tasks, "
        f"{short(sum(task.num_tokens for task in tasks.values()))} tokens each time they are asked"
    )
    for name, task in tasks.items():
        if task.num_left_out:
            progress.note(
                f"{name}: {task.num_left_out} documents are left out: without a text for an answer, or with "
                "one that is longer than a block"
            )
        if task.num_cut:
            progress.note(f"{name}: the beginning of {task.num_cut} contexts is cut off; they are too long")
    return facts
