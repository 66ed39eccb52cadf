"""The recipe's keys, their types, units and defaults. Keys the ecosystem already has keep their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from regmix_hf.recipe.executor import Executor
from regmix_hf.recipe.ladder import as_written, with_swarm
from regmix_hf.recipe.section import DomainName, RunsDomain, Section, Tokens
from regmix_hf.recipe.target import Combined, Shares, checked_target
from regmix_hf.recipe.tokenizer import Tokenizer
from regmix_hf.recipe.training import Proxy, Rung, Training
from regmix_hf.reference import split_reference

Weight = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Examples = Annotated[int, Field(ge=0)]

#: Mixtures that exist in every study without being spelt out under `baselines`.
CHOSEN = "chosen"
BUILT_IN_MIXTURES = (CHOSEN, "prior", "uniform")
#: `path` of the built-in source of text.
PYTHON_ENVIRONMENT = "python_environment"
#: In `train.mixtures`, all mixtures of the swarm that nothing is fitted on, each by its `mixture_id`.
HOLDOUT = "holdout"
#: What a study's repositories on the Hub are called after its name, beside those of its models.
PARTS = ("runs", "regressor", "mixture", "corpus")


class Domain(Section):
    """One named source of text; all but the last block of keys go to `datasets.load_dataset` as they are."""

    path: str
    """Hub id, folder of text, tables or both (`.txt .md .rst .jsonl .json .parquet`, compressed or not),
    `json`/`parquet`/`text`/..., or `python_environment` (the built-in source). Relative paths, here and in
    `data_files`, start at the working directory, or else at the recipe's folder."""
    name: str | None = None
    """The configuration of a data set on the Hub; of `python_environment`, the kind of text."""
    data_dir: str | None = None
    """A folder below `path`."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """Files, folders or patterns such as `texts/**/*.md`, of all splits or by split."""
    revision: str | None = None
    """A commit, tag or branch of a data set on the Hub; pin it, so that text cannot change."""
    streaming: bool = False
    """Read what lies on the Hub or behind addresses as it comes, instead of downloading it first."""
    sample_by: Literal["document", "paragraph", "line"] = "document"
    """What one document of a text file is: all of it, what stands between blank lines, or a line."""
    split: str = "train"
    """The split to train on."""
    validation_split: str | None = None
    """A split to validate on; without one, documents are held out of `split` by a hash of their text."""
    text_column: str = "text"
    """The column that holds the text; a dot reaches into a nested column."""
    filter: dict[str, str | int | bool | list[str | int | bool]] = Field(default_factory=dict)
    """Keep the rows whose column (a dot reaches into a nested one) equals the value, or one of the values."""
    num_tokens: Tokens | None = None
    """Tokens that are available. Counted by `prepare` when not given."""
    validation_only: bool = False
    """Only validate on this domain: its weight is 0 everywhere, its loss is a target all the same."""

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


class Corpus(Section):
    """How text becomes blocks."""

    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """Share of the documents held out for validation where a domain has no `validation_split`."""
    max_validation_tokens: Tokens = 1_000_000
    """Most validation tokens kept, per domain; the last document is cut there."""
    num_proc: Annotated[int, Field(ge=1)] | None = None
    """Processes that tokenize; `null` takes one per core."""


class Sampling(Section):
    """Mixtures for the swarm: Dirichlet around the prior (RegMix, section 3.1 and appendix)."""

    num_mixtures: Annotated[int, Field(ge=0)] = 512
    """Mixtures to fit on; `num_holdout` more are drawn that no regression is ever fitted on. 0 only beside
    `experts`, from which alone can be chosen, too."""
    experts: bool = False
    """Train a proxy on each training domain alone, too, for the estimators `experts` and `experts_and_law`:
    best where runs are few for the number of domains (`recipes/how-many-runs.md`). Bounds of single domains
    do not hold for them. Where one would see its domain more than `max_epochs` times the others fill it up,
    in their shares of the text."""
    num_holdout: Annotated[int, Field(ge=0)] = 32
    """Mixtures that no regression is ever fitted on."""
    num_repeats: Annotated[int, Field(ge=0)] = 0
    """How many of `num_mixtures` are no new mixtures, but others of them run again with another seed. All
    other runs share a seed, so without repeats intervals do not hold the noise between seeds; 4 will do. With
    `proxies` they are of the first size; at the last `choice.num_confirm: 4` gives a choice two seeds."""
    temperature: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """The Dirichlet's centre is prior ** temperature, normalised: 1 is the prior, 0 is uniform."""
    min_strength: Positive = 0.1
    """The Dirichlet's concentration takes log-spaced values between these."""
    max_strength: Positive = 5.0
    """The largest concentration; the larger, the nearer mixtures lie to the centre."""
    min_weight: Weight = 2e-4
    """Weights below this become 0."""
    max_epochs: Positive | None = 15
    """No domain is seen more often than this in a proxy run, nor in one over all available tokens (RegMix's
    cap: a weight is at most this many times the prior)."""
    min: dict[DomainName, Weight] = Field(default_factory=dict)
    """Bounds of single domains."""
    max: dict[DomainName, Weight] = Field(default_factory=dict)
    """Largest weights of single domains."""


class Regression(Section):
    """Which regressors are fitted, and on what the mixture is judged."""

    estimators: Annotated[list[str], Field(min_length=1)] = ["ridge", "lightgbm", "power_law"]
    """Families to fit and compare; the names are those of `regmix fit --estimators`, and `experts` and
    `experts_and_law` beside `sampling.experts`. `regmix init` writes `experts_and_law` or `auto`; the default
    is that of version 0.1, so that recipes without this key mean what they meant."""
    target: Annotated[str | list[str | Combined] | Shares | Combined, BeforeValidator(checked_target)] = (
        "mean"
    )
    """What `choose` makes good: a domain's loss (`web`, or `bpb/web` in bits per byte), `bpb/<task>`,
    `<task>/<metric>` of lm-eval, or a column of the runs; a list of them (their mean), targets with weights,
    `{mean_of: [...]}`, `{worst_of: [...]}`, `mean` of all losses or `worst` of all."""
    min_signal: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    """Leave targets out on which mixtures differ by fewer noises than this: standard deviations between seeds
    of one mixture, or else standard errors. `null`: those below 1 are named."""
    estimator: str | None = None
    """The estimator `choose` uses. `null`: the best on unseen runs."""


class Group(Section):
    """Domains that are bounded together, e.g. all code."""

    domains: list[RunsDomain]
    """Which they are; a domain may be in one group."""
    min: Weight = 0.0
    """Least sum of their weights."""
    max: Weight = 1.0
    """Largest sum of their weights."""

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if not self.domains:
            raise ValueError("`domains` names none; write which are bounded together, e.g. [python, c]")
        if self.min == 0.0 and self.max == 1.0:
            raise ValueError("bounds nothing; give `min`, `max` or both")
        if self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Choice(Section):
    """How the mixture is chosen (RegMix, algorithm 1)."""

    num_candidates: Annotated[int, Field(ge=1)] = 1_000_000
    """Mixtures that are drawn and predicted, of which the best are looked at."""
    top_k: Annotated[int, Field(ge=1)] = 100
    """The chosen mixture is the mean of this many best predicted candidates."""
    kl_strength: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | Literal["auto"] = 0.0
    """Nats of predicted loss that one nat of divergence from the prior costs (Olmix); 0 is RegMix. `auto`: as
    many as promises fell short by, per nat of divergence, over the better half of the runs, each predicted
    by a fit without it; runs that tried a choice are among them."""
    force: bool = False
    """Choose what the predictions say also where `fit` found that they cannot tell mixtures apart; else the
    chosen mixture is then the prior."""
    num_confirm: Annotated[int, Field(ge=0)] = 4
    """Proxies that are trained to try a choice: at the chosen mixture, at the prior and near the chosen one,
    with seeds of their own. What was promised is held against what they measure, they are added to the runs,
    and it is fitted and chosen again. 0: none."""
    num_rounds: Annotated[int, Field(ge=1)] = 2
    """Most rounds of `num_confirm` proxies. When a promise holds and what is chosen then differs from what
    was tried in at most a tenth of the tokens, no other round follows."""
    max_epochs: Positive | None = 4
    """No domain is seen more often than this in the final run. 4 where nothing is known of the text: up to
    about four times is nearly as good as new text, later it helps ever less (Muennighoff et al. 2023).
    Proxies that repeat as final runs do (`proxy.match_repetition`) tell more: laws fitted on them count what
    repeating costs, and it may then be `null`."""
    min: dict[RunsDomain, Weight] = Field(default_factory=dict)
    """Bounds of single domains; `fixed` pins a weight."""
    max: dict[RunsDomain, Weight] = Field(default_factory=dict)
    """Largest weights of single domains."""
    fixed: dict[RunsDomain, Weight] = Field(default_factory=dict)
    """Weights of single domains that are not to be chosen."""
    groups: dict[DomainName, Group] = Field(default_factory=dict)
    """Bounds of several domains together, under names of yours: `{code: {domains: [python, c], max: 0.3}}`.
    What the swarm is drawn from stays as `sampling` says."""


class Train(Training):
    """The final runs."""

    mixtures: Annotated[list[str], Field(min_length=1)] = ["chosen"]
    """Names of mixtures: `chosen`, `prior`, `uniform`, or a key of `baselines`; `holdout` stands for all
    held-out mixtures of the swarm, to see whether what small models say of them holds for large ones."""
    streaming: bool = False
    """Train straight from the text, tokenized while training, instead of from prepared blocks: nothing but
    what the proxies need is then on disk."""
    num_seeds: Annotated[int, Field(ge=1)] = 1
    """Runs of every mixture, each with its own seed."""
    num_workers: Annotated[int, Field(ge=1)] | None = None
    """Runs trained side by side; `null` takes one per core on a CPU and one over all GPUs elsewhere."""
    allow_repetition: bool = False
    """Train also on mixtures that read a domain more often than `choice.max_epochs`."""
    accelerate_config: str | None = None
    """`cpu`, `single_gpu`, `multi_gpu`, `fsdp2` (configs of this package) or a file of `accelerate config`;
    `null` lets accelerate decide."""


class Evaluation(Section):
    """How the final models are judged."""

    tasks: list[str] = Field(default_factory=list)
    """Tasks of lm-eval; `held_out_text` are local tasks made of the validation documents."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Documents of each task that are scored. `null`: all."""
    num_fewshot: Examples | Annotated[list[Examples], Field(min_length=1)] | None = None
    """Solved examples before each question; a list: every task once with each. `null`: the task's own."""
    include_path: str | None = None
    """A folder with task files of one's own, for `tasks` and `proxy.tasks`; a relative path starts at the
    working directory."""


class Hub(Section):
    """Where a study is published."""

    namespace: str
    """User or organisation."""
    private: bool = False
    """Make repositories that only their owner sees."""
    license: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")] | None = None
    """What the Hub calls the licence of everything published, e.g. `apache-2.0`. `null`: none is stated."""
    push_to_hub: bool = False
    """Publish by itself: after each stage of `run`, and runs while `proxies` trains them."""
    push_every: Annotated[int, Field(ge=1)] = 32
    """Proxies that end between two publications while they are trained."""
    corpus: bool | Literal["public"] = False
    """Publish the prepared text and the mixtures, too, and fetch them where they are missing, so that workers
    elsewhere need not tokenize. `true`: for yourself alone, whatever `private` says."""


def _check_revision(text: str) -> str:
    reference = split_reference(text)
    if reference is None or reference[1] is None:
        raise ValueError("names no revision of a repository; write NAMESPACE/NAME-runs@v1")
    return text


class SharedRuns(Section):
    """Runs that others published, to fit on. Short forms: one repository, or a list of them."""

    repositories: Annotated[list[Annotated[str, AfterValidator(_check_revision)]], Field(min_length=1)]
    """`NAMESPACE/NAME-runs@REVISION`; best a version, which never changes."""
    allow: list[Literal["corpus", "tokenizer", "scale"]] = Field(default_factory=list)
    """In what these runs may differ from the study's own and from each other. Runs of another scale than the
    first, a study's own, are no part of the fit."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"repositories": [data]}
        return {"repositories": data} if isinstance(data, list) else data


class Recipe(Section):
    """One study. See `recipes/quickstart/recipe.yaml` for a whole one, in commented blocks."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
    """What the study is called, here and on the Hub."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """From it comes every random choice of the study."""
    output_dir: Path = Path()
    """Relative paths start at the working directory. Default: `runs/<name>`."""
    context_length: Annotated[int, Field(ge=8)]
    """Tokens of a block."""
    tokenizer: Tokenizer
    """A Hub id, with `@REVISION` or without, a folder, or `{train: {vocab_size: 4096}}`: a BPE trained on the
    text. Left out, it is that of `proxy.model.pretrained`."""
    domains: Annotated[dict[DomainName, Domain], Field(min_length=1)]
    """The sources of text, each under a name of yours; results stand in this order."""
    corpus: Corpus = Corpus()
    """What of the text is held out, and how much."""
    sampling: Sampling = Sampling()
    """The mixtures that proxies are trained on."""
    proxy: Proxy
    """The proxies; or, of several sizes, the first of `proxies`."""
    proxies: tuple[Rung, ...] = ()
    """In the place of `proxy` a ladder: the swarm, then a few of its mixtures (`num_mixtures`) at larger
    sizes or lengths, so that a mixture is chosen for final models. An entry has the keys of `proxy`; what
    it leaves out, but for `num_mixtures` and `scale`, is as in the one before, each of `training_args`
    alone; `null` there takes one away."""
    runs: SharedRuns | None = None
    """Runs of others to fit on; `run` then trains no proxies, those that are there are fitted on, too."""
    regression: Regression = Regression()
    """What is fitted on their losses."""
    choice: Choice = Choice()
    """How the mixture is chosen."""
    train: Train
    """The final models."""
    baselines: dict[DomainName, dict[DomainName, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]] = (
        Field(default_factory=dict)
    )
    """Named mixtures to compare with; normalised when read. Bounds of `choice` do not hold for them."""
    evaluation: Evaluation = Evaluation()
    """What the final models are scored on."""
    executor: Executor = Executor()
    """Where proxies and evaluations are done."""
    hub: Hub | None = None
    """Where the study is published; without it nowhere."""

    @model_validator(mode="before")
    @classmethod
    def _default_output_dir(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("output_dir") and isinstance(data.get("name"), str):
            return {**data, "output_dir": f"runs/{data['name']}"}
        return data

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return as_written(handler(self), self.proxies)

    @model_validator(mode="before")
    @classmethod
    def _tokenizer_of_checkpoint(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("tokenizer") is not None:
            return data
        try:
            model = data["proxy"]["model"]
            pretrained, revision = model["pretrained"], model.get("revision")
        except (AttributeError, KeyError, TypeError):
            return data
        if not isinstance(pretrained, str):
            return data
        return {**data, "tokenizer": f"{pretrained}@{revision}" if revision else pretrained}

    @model_validator(mode="before")  # of these the last comes first
    @classmethod
    def _swarm_of_ladder(cls, data: Any) -> Any:
        return with_swarm(data)

    @property
    def rungs(self) -> dict[str, Proxy]:
        """Proxies of every size and length, the swarm first, by their key: `proxy`, or `proxies.0` and on."""
        if not self.proxies:
            return {"proxy": self.proxy}
        return {f"proxies.{number}": rung for number, rung in enumerate((self.proxy, *self.proxies[1:]))}

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
