"""The recipe's keys, their types, units and defaults. Keys the ecosystem already has keep their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    model_serializer,
    model_validator,
)

from regmix_hf.reference import split_reference

DomainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=96)]
Weight = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(gt=0)]
Examples = Annotated[int, Field(ge=0)]

#: Mixtures that exist in every study without being spelt out under `baselines`.
CHOSEN = "chosen"
BUILT_IN_MIXTURES = (CHOSEN, "prior", "uniform")
#: `path` of the built-in source of text.
PYTHON_ENVIRONMENT = "python_environment"
#: In `train.mixtures`, all mixtures of the swarm that nothing is fitted on, each by its `mixture_id`.
HOLDOUT = "holdout"
#: What a study's repositories on the Hub are called after its name, beside those of its models.
PARTS = ("runs", "regressor", "mixture")


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Domain(Section):
    """One named source of text; all but the last block of keys go to `datasets.load_dataset` as they are."""

    #: Hub id, folder of text, tables or both (`.txt .md .rst .jsonl .json .parquet`, compressed or not),
    #: `json`/`parquet`/`text`/..., or `python_environment` (the built-in source). Relative paths, here and in
    #: `data_files`, start at the working directory, or else at the recipe's folder.
    path: str
    name: str | None = None
    data_dir: str | None = None
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    revision: str | None = None
    #: Read what lies on the Hub or behind addresses as it comes, instead of downloading it first.
    streaming: bool = False
    #: What one document of a text file is: all of it, what stands between blank lines, or a line.
    sample_by: Literal["document", "paragraph", "line"] = "document"
    #: The split to train on.
    split: str = "train"
    #: A split to validate on; without one, documents are held out of `split` by a hash of their text.
    validation_split: str | None = None
    #: The column that holds the text; a dot reaches into a nested column.
    text_column: str = "text"
    #: Keep the rows whose column (a dot reaches into a nested one) equals the value, or one of the values.
    filter: dict[str, str | int | bool | list[str | int | bool]] = Field(default_factory=dict)
    #: Tokens that are available. Counted by `prepare` when not given.
    num_tokens: Tokens | None = None
    #: Only validate on this domain: its weight is 0 everywhere, its loss is a target all the same.
    validation_only: bool = False

    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The folder of the recipe that the domain was read from, no part of what it says."""
        return self._folder

    def from_folder(self, folder: Path | None) -> Self:
        """Remember the folder of the recipe; return the domain."""
        self._folder = folder
        return self

    @model_serializer(mode="wrap")
    def _without_default_of_new_key(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written by version 0.1 without the key: run ids and the state of stages follow from what is written.
        words: dict[str, Any] = handler(self)
        if words.get("sample_by") == "document":
            del words["sample_by"]
        return words


class TrainTokenizer(Section):
    """A byte-level BPE, trained on the same number of bytes of every training domain."""

    vocab_size: Annotated[int, Field(ge=257)]


class TrainedTokenizer(Section):
    """`tokenizer: {train: {vocab_size: 4096}}`."""

    train: TrainTokenizer


def _kind_of_tokenizer(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "trained" if isinstance(value, dict | TrainedTokenizer) else None


Tokenizer = Annotated[
    Annotated[str, Tag("name")] | Annotated[TrainedTokenizer, Tag("trained")],
    Discriminator(
        _kind_of_tokenizer,
        custom_error_type="tokenizer",
        custom_error_message="give a Hub id, a folder, or {train: {vocab_size: 4096}}",
    ),
]


class Corpus(Section):
    """How text becomes blocks."""

    #: Share of the documents held out for validation where a domain has no `validation_split`.
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    #: Most validation tokens kept, per domain; the last document is cut there.
    max_validation_tokens: Tokens = 1_000_000
    #: Processes that tokenize; `None` takes one per core.
    num_proc: Annotated[int, Field(ge=1)] | None = None


class Sampling(Section):
    """Mixtures for the swarm: Dirichlet around the prior (RegMix, section 3.1 and appendix)."""

    #: Mixtures to fit on; `num_holdout` more are drawn that no regression is ever fitted on.
    num_mixtures: Annotated[int, Field(ge=1)] = 512
    num_holdout: Annotated[int, Field(ge=0)] = 32
    #: The Dirichlet's centre is prior ** temperature, normalised: 1 is the prior, 0 is uniform.
    temperature: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    #: The Dirichlet's concentration takes log-spaced values between these.
    min_strength: Positive = 0.1
    max_strength: Positive = 5.0
    #: Weights below this become 0.
    min_weight: Weight = 2e-4
    #: No domain is seen more often than this in a proxy run, nor in one over all available tokens (RegMix's
    #: cap: a weight is at most this many times the prior).
    max_epochs: Positive | None = 15
    #: Bounds of single domains.
    min: dict[DomainName, Weight] = Field(default_factory=dict)
    max: dict[DomainName, Weight] = Field(default_factory=dict)


class Model(Section):
    """A preset by name, or any `transformers` config; keys beside `preset` override the preset's."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())
    preset: str | None = None
    model_type: str | None = None

    @model_validator(mode="after")
    def _names_a_shape(self) -> Self:
        if self.preset is None and self.model_type is None:
            raise ValueError("give `preset: NAME` or `model_type: NAME` with the keys of its config")
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The keys of the `transformers` config that the recipe itself gives."""
        return dict(self.__pydantic_extra__ or {})


class Training(Section):
    """What one training run needs besides its mixture, seed and corpus."""

    model: Model
    #: Tokens one run trains on. Met exactly, in blocks of `context_length`.
    num_train_tokens: Tokens
    #: Tokens of one optimiser step, over all devices. `None`: per-device batch x accumulation x context.
    num_batch_tokens: Tokens | None = None
    #: Keys of `transformers.TrainingArguments`, checked against the installed version.
    training_args: dict[str, Any] = Field(default_factory=dict)
    #: Times the losses of all domains are measured during a run; the last is at its end.
    num_evaluations: Annotated[int, Field(ge=1)] = 4


class Proxy(Training):
    """The proxy runs."""

    #: What the column `scale` of the results says, e.g. `1M`. `None`: the model's own parameter count.
    scale: str | None = None
    #: Runs of every mixture, each with its own seed.
    num_seeds: Annotated[int, Field(ge=1)] = 1
    #: Worker processes; `None` takes one per GPU, or one per core where there is none.
    num_workers: Annotated[int, Field(ge=1)] | None = None


class Regression(Section):
    """Which regressors are fitted, and on what the mixture is judged."""

    estimators: Annotated[list[str], Field(min_length=1)] = ["ridge", "lightgbm", "power_law"]
    #: What `choose` makes small: a domain, a list of them (their mean), domains with weights,
    #: `mean` of all or `worst` of all.
    target: str | list[str] | dict[str, float] = "mean"
    #: The estimator `choose` uses. `None`: the best on held-out runs.
    estimator: str | None = None


class Choice(Section):
    """How the mixture is chosen (RegMix, algorithm 1)."""

    num_candidates: Annotated[int, Field(ge=1)] = 1_000_000
    #: The chosen mixture is the mean of this many best predicted candidates.
    top_k: Annotated[int, Field(ge=1)] = 100
    #: Nats of predicted loss that one nat of divergence from the prior costs (Olmix); 0 is RegMix.
    kl_strength: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    #: Choose what the predictions say also where `fit` found that they cannot tell mixtures apart; else the
    #: chosen mixture is then the prior.
    force: bool = False
    #: No domain is seen more often than this in the final run.
    max_epochs: Positive | None = 4
    #: Bounds of single domains; `fixed` pins a weight.
    min: dict[DomainName, Weight] = Field(default_factory=dict)
    max: dict[DomainName, Weight] = Field(default_factory=dict)
    fixed: dict[DomainName, Weight] = Field(default_factory=dict)


class Train(Training):
    """The final runs."""

    #: Names of mixtures: `chosen`, `prior`, `uniform`, or a key of `baselines`; `holdout` stands for all
    #: held-out mixtures of the swarm, to see whether what small models say of them holds for large ones.
    mixtures: Annotated[list[str], Field(min_length=1)] = ["chosen"]
    #: Train straight from the text, tokenized while training, instead of from prepared blocks: nothing but
    #: what the proxies need is then on disk.
    streaming: bool = False
    #: Runs of every mixture, each with its own seed.
    num_seeds: Annotated[int, Field(ge=1)] = 1
    #: Runs trained side by side; `None` takes one per core on a CPU and one over all GPUs elsewhere.
    num_workers: Annotated[int, Field(ge=1)] | None = None
    #: Train also on mixtures that read a domain more often than `choice.max_epochs`.
    allow_repetition: bool = False
    #: `cpu`, `single_gpu`, `multi_gpu`, `fsdp2` (configs of this package) or a file of `accelerate config`;
    #: `None` lets accelerate decide.
    accelerate_config: str | None = None


class Evaluation(Section):
    """How the final models are judged."""

    #: Tasks of lm-eval; `held_out_text` are local tasks made of the validation documents.
    tasks: list[str] = Field(default_factory=list)
    #: Documents of each task that are scored. `None`: all.
    limit: Annotated[int, Field(ge=1)] | None = None
    #: Solved examples before each question; a list: every task once with each. `None`: the task's own.
    num_fewshot: Examples | Annotated[list[Examples], Field(min_length=1)] | None = None


class Hub(Section):
    """Where a study is published."""

    #: User or organisation.
    namespace: str
    private: bool = False
    #: What the Hub calls the licence of everything published, e.g. `apache-2.0`. `None`: none is stated.
    license: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")] | None = None
    #: Publish by itself: after each stage of `run`, and runs while `proxies` trains them.
    push_to_hub: bool = False
    #: Proxies that end between two publications while they are trained.
    push_every: Annotated[int, Field(ge=1)] = 32


def _check_revision(text: str) -> str:
    reference = split_reference(text)
    if reference is None or reference[1] is None:
        raise ValueError("names no revision of a repository; write NAMESPACE/NAME-runs@v1")
    return text


class SharedRuns(Section):
    """Runs that others published, to fit on. Short forms: one repository, or a list of them."""

    #: `NAMESPACE/NAME-runs@REVISION`; best a version, which never changes.
    repositories: Annotated[list[Annotated[str, AfterValidator(_check_revision)]], Field(min_length=1)]
    #: In what these runs may differ from the study's own and from each other. Runs of another scale than the
    #: first, a study's own, are no part of the fit.
    allow: list[Literal["corpus", "tokenizer", "scale"]] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"repositories": [data]}
        return {"repositories": data} if isinstance(data, list) else data


class Recipe(Section):
    """One study. See `recipes/quickstart/recipe.yaml` for a whole one, in commented blocks."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    #: Relative paths start at the working directory. Default: `runs/<name>`.
    output_dir: Path = Path()
    #: Tokens of a block.
    context_length: Annotated[int, Field(ge=8)]
    tokenizer: Tokenizer
    domains: Annotated[dict[DomainName, Domain], Field(min_length=1)]
    corpus: Corpus = Corpus()
    sampling: Sampling = Sampling()
    proxy: Proxy
    #: Runs of others to fit on; `run` then trains no proxies, those of `proxies` are fitted on beside them.
    runs: SharedRuns | None = None
    regression: Regression = Regression()
    choice: Choice = Choice()
    train: Train
    #: Named mixtures; normalised when read.
    baselines: dict[DomainName, dict[DomainName, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]] = (
        Field(default_factory=dict)
    )
    evaluation: Evaluation = Evaluation()
    hub: Hub | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_output_dir(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("output_dir") and isinstance(data.get("name"), str):
            return {**data, "output_dir": f"runs/{data['name']}"}
        return data

    @property
    def declared_tokens(self) -> dict[str, int] | None:
        """Available tokens of every training domain, where the recipe says them for all of them."""
        declared = {name: self.domains[name].num_tokens for name in self.training_domains}
        tokens = {name: count for name, count in declared.items() if count is not None}
        return tokens if len(tokens) == len(declared) else None

    @property
    def training_domains(self) -> tuple[str, ...]:
        """Domains that may have a weight, in the recipe's order."""
        return tuple(name for name, domain in self.domains.items() if not domain.validation_only)
