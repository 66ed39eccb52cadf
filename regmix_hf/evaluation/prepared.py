"""What a study's models are asked about tasks, prepared once with its corpus."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.evaluation.answers import Questions, encoder_of, prepare_answers, questions_of
from regmix_hf.evaluation.exams import Papers, papers_of, prepare_exam
from regmix_hf.evaluation.tasks import load_each
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of, short
from regmix_hf.recipe import Recipe
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CorpusFacts, TaskFacts


@dataclass(frozen=True)
class Loaded:
    """Documents of tasks, in words.

    Attributes:
        questions: Of `proxy.tasks`, by name.
        papers: Of the tasks and groups of `proxy.metrics`, by name.
    """

    questions: Mapping[str, Questions]
    papers: Mapping[str, Papers]


def load_questions(recipe: Recipe) -> Loaded:
    """Load the documents of `proxy.tasks` and `proxy.metrics`, which needs no tokenizer.

    Raises:
        RecipeError: lm-eval has no task or metric of a name.
        DataError: Documents cannot be had, or a task has no right answer that is a text.
    """
    proxy, own = recipe.proxy, recipe.evaluation.include_path
    limit, seed = proxy.task_limit, recipe.seed
    tasks = load_each(proxy.tasks, own, "proxy.tasks")
    questions = {name: questions_of(name, found, limit=limit, seed=seed) for name, found in tasks.items()}
    # Loaded anew: a task keeps the requests that it was asked to make last.
    judged = load_each(list(proxy.judged), own, "proxy.metrics")
    papers = {
        name: papers_of(name, proxy.judged[name], found, limit=limit, seed=seed)
        for name, found in judged.items()
    }
    return Loaded(questions, papers)


def prepare_tasks(loaded: Loaded, corpus: Path, facts: CorpusFacts, progress: Progress) -> CorpusFacts:
    """Write what models are asked beside the blocks of a corpus; return what it holds now, as on disk.

    Raises:
        DataError: Every answer of a task is longer than a model reads.
    """
    for folder in (names.TASKS, names.METRICS):
        shutil.rmtree(corpus / folder, ignore_errors=True)
    if not loaded.questions and not loaded.papers:
        return facts
    encoder = encoder_of(Corpus(corpus).tokenizer(), facts.context_length, facts.eos_token_id)
    tasks = {name: prepare_answers(asked, name, encoder, corpus) for name, asked in loaded.questions.items()}
    exams = {name: prepare_exam(papers, name, encoder, corpus) for name, papers in loaded.papers.items()}
    facts = facts.model_copy(update={"tasks": tasks, "exams": exams})
    facts.save(corpus)
    everything: list[tuple[str, TaskFacts]] = [*tasks.items(), *exams.items()]
    progress.note(
        f"{sum(task.num_documents for _, task in everything):,} questions of "
        f"{count_of(len({*tasks, *exams}), 'task')}, "
        f"{short(sum(task.num_tokens for _, task in everything))} tokens each time they are asked"
    )
    for name, task in everything:
        if task.num_left_out:
            progress.note(
                f"{name}: {count_of(task.num_left_out, 'document')} left out: without a text for "
                "an answer, or with "
                "one that is longer than a block"
            )
        if task.num_cut:
            progress.note(f"{name}: {count_of(task.num_cut, 'context')} too long, cut off at the beginning")
    return facts
