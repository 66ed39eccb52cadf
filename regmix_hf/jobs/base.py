"""The model of a study's own that all its proxies start from: trained once, before them."""

from __future__ import annotations

from regmix_hf.errors import TrainingError
from regmix_hf.jobs.place import SharedPlace
from regmix_hf.jobs.proxies import ProxyWork, run_head, training_on
from regmix_hf.jobs.results import forget_failed, reason_of, result_of, status_of
from regmix_hf.jobs.tasks import Do, Task
from regmix_hf.progress import Progress
from regmix_hf.readable import short
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.spec import RunSpec, base_spec


class BaseWork(ProxyWork):
    """Trains what others start from, and keeps it beside the corpus."""

    def open(self) -> Do[RunSpec]:
        """Import what trains and open the corpus."""
        from regmix_hf.training.run import train_base

        return training_on(self.corpus, train_base)


def base_task(study: Study) -> Task[RunSpec] | None:
    """The one task, where the recipe asks for it.

    Raises:
        StudyError: There is no corpus yet.
    """
    spec = base_spec(study.recipe, CorpusFacts.load(study.corpus))
    if spec is None:
        return None
    folder = study.corpus / names.CHECKPOINTS / spec.run_id
    return Task(spec.run_id, folder, spec.num_tokens, spec, run_head(spec))


def train_base_once(study: Study, place: SharedPlace[ProxyWork], progress: Progress) -> None:
    """Train what proxies start from, where the recipe asks for it and it is not there.

    Where others are at it, this waits: there is nothing to do before it is there.

    Raises:
        TrainingError: It failed or diverged.
    """
    task = base_task(study)
    if task is None:
        return
    forget_failed([task])
    if result_of(task) is None:
        tokens, mixture = short(task.spec.num_tokens), task.spec.mixture_id
        progress.note(f"training the model that proxies start from, on {tokens} tokens of {mixture!r}")
        place.staying().run([task], BaseWork(study.corpus), progress)
    if status_of(task) in ("failed", "diverged"):
        why = reason_of(task) if status_of(task) == "failed" else "its loss is not finite"
        raise TrainingError(
            f"proxy.model.pretrained: the model that proxies start from could not be trained: {why}",
            f"its folder is {task.folder}",
        )
