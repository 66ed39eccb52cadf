"""What is known of a corpus without opening its blocks: counts and hashes, from `1-corpus/corpus.json`."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from regmix_hf.errors import StudyError
from regmix_hf.files import hash_value, read_as, write_json
from regmix_hf.quantities import BPB
from regmix_hf.recipe import Recipe
from regmix_hf.study.names import CORPUS_FACTS

#: A source with less than this share of the tokens that a recipe says it has is a sample of it.
_SAMPLE = 0.9


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitFacts(_Facts):
    """Counts of one split of one domain. Tokens include the EOS after every document, bytes do not."""

    num_documents: int
    num_bytes: int
    num_tokens: int
    #: Whole blocks of `context_length` tokens; the remainder of the tokens is not used.
    num_blocks: int
    #: Of the blocks' token ids, in order, as little-endian int64: the same whatever type is on disk.
    sha256: str
    #: The same of some blocks, spread evenly, which tell at once whether a large file is still the same.
    sample_sha256: str | None = None
    #: Of validation text, in nats per token: the least loss of a model that knows how often each token occurs
    #: and nothing else. `None` where it was not counted.
    token_entropy: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None

    @property
    def tokens_per_byte(self) -> float:
        """Tokens the tokenizer spends on one byte of UTF-8 text; turns nats per token into bits per byte."""
        return self.num_tokens / self.num_bytes


class ReadFacts(_Facts):
    """What one split of a domain was read from. No names of files: they are nobody else's business.

    The documents are all that rows gave, those included that are held out or validated on elsewhere.
    """

    #: `None`: a library read them.
    num_files: int | None = None
    #: Files that symbolic links led to.
    num_links: int = 0
    #: Files that two patterns matched; each was read once.
    num_twice: int = 0
    #: Patterns that matched nothing, and files in folders that are of no kind that is read.
    num_unmatched: int = 0
    num_other_files: int = 0
    num_rows: int = 0
    #: Why how many rows gave no document.
    left_out: dict[str, int] = Field(default_factory=dict)
    num_documents: int = 0
    num_characters: int = 0

    @property
    def public_left_out(self) -> dict[str, int]:
        """`left_out` without the names of columns that rows have instead: they are nobody else's business."""
        counts = Counter[str]()
        for reason, count in self.left_out.items():
            counts[reason.split(" but ")[0]] += count
        return dict(counts)


class DomainFacts(_Facts):
    """What one domain holds. A validation-only domain has no `train`."""

    train: SplitFacts | None
    validation: SplitFacts
    #: Tokens that the source has by the recipe, where `train` is only its beginning, as much as the study
    #: needs; `None`: the source was read to its end.
    part_of: int | None = None
    #: What the text of each split was read from; nothing of what version 0.1 prepared.
    read: dict[Literal["train", "validation"], ReadFacts] = Field(default_factory=dict)

    @property
    def main_split(self) -> SplitFacts:
        """What there is to train on, or to validate on where there is nothing else."""
        return self.train or self.validation

    @property
    def main_read(self) -> ReadFacts | None:
        """What that was read from."""
        return self.read.get("train") or self.read.get("validation")

    @property
    def available_tokens(self) -> int:
        """Tokens to train on that the domain has, whether they were read or not."""
        if self.train is None:
            return 0
        return self.part_of or self.train.num_tokens


class TaskFacts(_Facts):
    """What models are asked to score one task of lm-eval, or one group."""

    #: Documents that have a text as their right answer, and those left out because they have none.
    num_documents: int
    num_left_out: int = 0
    #: Documents whose context was cut, from its beginning, to what a model takes.
    num_cut: int = 0
    #: Of the right answers, in UTF-8.
    num_bytes: int
    #: That a model reads, contexts included.
    num_tokens: int
    #: Of all requests, in order.
    sha256: str


class MemberFacts(_Facts):
    """One task of an exam: how lm-eval judges it."""

    #: Its `output_type`.
    kind: Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling"]
    #: What documents are made one number by, for each metric: a name that lm-eval knows.
    aggregations: dict[str, str]
    #: Of the exam's documents, which follow each other member by member.
    num_documents: int


class ExamFacts(TaskFacts):
    """What models are asked so that metrics of one task of lm-eval, or one group, can be computed."""

    #: Metric -> whether a group counts its members by their documents.
    metrics: dict[str, bool]
    members: list[MemberFacts]


class CheckpointFacts(_Facts):
    """A model that training starts from."""

    #: Of its weights; the folder of the weights is called by its beginning.
    sha256: str
    #: Keys of its `transformers` config, `model_type` included.
    config: dict[str, Any]

    @property
    def folder(self) -> str:
        """Name of the folder of its weights, which is also what they are called in the name of a run."""
        return self.sha256[:16]


class CorpusFacts(_Facts):
    """What a corpus holds, in the recipe's order of domains."""

    context_length: int
    vocab_size: int
    eos_token_id: int
    #: SHA-256 of the tokenizer's `tokenizer.json`.
    tokenizer_sha256: str
    domains: dict[str, DomainFacts]
    #: What models are scored on besides, by the name that stands in the recipe.
    tasks: dict[str, TaskFacts] = Field(default_factory=dict)
    #: What models are judged by besides, by the name of the task or group.
    exams: dict[str, ExamFacts] = Field(default_factory=dict)
    #: What runs start from, by `Model.checkpoint`.
    checkpoints: dict[str, CheckpointFacts] = Field(default_factory=dict)

    @classmethod
    def load(cls, corpus: Path) -> Self:
        """Read `corpus.json` of the folder `corpus`.

        Raises:
            StudyError: There is none yet, or it is damaged.
        """
        file = corpus / CORPUS_FACTS
        if not file.exists():
            raise StudyError(f"{file} is not there yet.", "run `regmix prepare` first")
        return read_as(file, cls)

    @classmethod
    def find(cls, corpus: Path) -> Self | None:
        """Read it; `None` where there is none, or it is damaged: then `prepare` writes it anew."""
        try:
            return cls.load(corpus)
        except StudyError:
            return None

    def save(self, corpus: Path) -> None:
        """Write `corpus.json`; from then on the corpus is complete."""
        write_json(corpus / CORPUS_FACTS, self.tree)

    @property
    def tree(self) -> dict[str, Any]:
        """What `corpus.json` holds, byte for byte the same on the Hub, where stages look for changes."""
        return self.model_dump(exclude_defaults=True)

    @property
    def fingerprint(self) -> str:
        """Hash of the content of all blocks: equal for equal corpora, wherever they lie."""
        split = {"sample_sha256", "token_entropy"}
        domain: Any = {"part_of": True, "read": True, "train": split, "validation": split}
        beside = dict.fromkeys(("tasks", "exams", "checkpoints"), True)
        return hash_value(self.model_dump(exclude={"domains": {"__all__": domain}, **beside}))

    @property
    def scored(self) -> dict[str, str]:
        """Hash of what models are asked, by the column of what comes of it."""
        bits = {f"{BPB}{name}": task.sha256 for name, task in self.tasks.items()}
        return bits | {
            f"{name}/{metric}": exam.sha256 for name, exam in self.exams.items() for metric in exam.metrics
        }

    @property
    def training(self) -> dict[str, SplitFacts]:
        """What there is to train on, by domain."""
        return {name: facts.train for name, facts in self.domains.items() if facts.train is not None}

    @property
    def validation(self) -> dict[str, str]:
        """Hash of the blocks that the loss of each domain is measured on."""
        return {name: facts.validation.sha256 for name, facts in self.domains.items()}

    @property
    def token_entropy(self) -> dict[str, float]:
        """Loss on each domain, in nats per token, of a model that only knows how often its tokens occur."""
        counted = {name: facts.validation.token_entropy for name, facts in self.domains.items()}
        return {name: entropy for name, entropy in counted.items() if entropy is not None}

    def available_tokens(self, recipe: Recipe) -> dict[str, int]:
        """Tokens of every training domain: the recipe's `num_tokens` where given, else what was counted."""
        return {
            name: recipe.domains[name].num_tokens or self.domains[name].available_tokens
            for name in recipe.training_domains
        }

    def samples(self, recipe: Recipe) -> dict[str, int]:
        """Tokens counted in every training domain that ended well before the `num_tokens` of the recipe.

        Such a source is a sample of what the recipe speaks of: good for proxies, not for a final run.
        """
        return {
            name: count
            for name, count in self._counted.items()
            if count < _SAMPLE * (recipe.domains[name].num_tokens or 0)
        }

    def understated(self, recipe: Recipe) -> dict[str, int]:
        """Tokens counted in every training domain that has well more than the `num_tokens` of the recipe.

        The prior then follows a number of another unit or tokenizer, not the text.
        """
        return {
            name: count
            for name, count in self._counted.items()
            if _SAMPLE * count > (recipe.domains[name].num_tokens or math.inf)
        }

    @property
    def _counted(self) -> dict[str, int]:
        """Tokens of every training domain that was read to its end."""
        return {
            name: facts.train.num_tokens
            for name, facts in self.domains.items()
            if facts.train is not None and facts.part_of is None
        }

    def prior(self, recipe: Recipe) -> dict[str, float]:
        """Share of every training domain in the available tokens."""
        tokens = self.available_tokens(recipe)
        total = sum(tokens.values())
        return {name: count / total for name, count in tokens.items()}
