"""The tables that verbs print: what their columns are called, hold and are in, for people and for machines.

A key is never renamed: programs read it. `weight` is a share of training tokens in every table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regmix_hf.readable import duration
from regmix_hf.tables import QUALITY, SCORES

SHARE, NATS, TOKENS, BYTES, SECONDS = (
    *("share_of_training_tokens", "nats_per_token", "tokens", "bytes", "seconds"),
)
#: In the place of a unit: that of the target, which the table is about.
OF_TARGET = "of the target"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: Its name for machines.
        type: Of its values, each of which may be missing. A `dict` is a column for each of its keys.
        unit: What its values are in; `None`: a name or a number of things. `OF_TARGET`: see there.
        head: What a person reads above it; `None`: the key.
        format: How a person sees its numbers: a format specification, or what makes words of one.
        for_machines: A person reads it elsewhere, in the title say.
        is_joined: It is shown where the column before it is, and else neither: the other end of an interval.
    """

    key: str
    type: Any = str
    unit: str | None = None
    head: str | None = None
    format: str | Callable[[float], str] | None = None
    for_machines: bool = False
    is_joined: bool = False


@dataclass(frozen=True)
class Kind:
    """What tables of one name have in common.

    Attributes:
        name: Of the table, for machines.
        columns: In their order.
        about: What all of a table speaks of, which a person reads in its title.
    """

    name: str
    columns: tuple[Column, ...]
    about: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows for a person or a machine. Numbers stay numbers.

    Attributes:
        kind: Its columns.
        rows: Column -> value; what a row lacks is missing.
        title: For a person.
        about: Values of `kind.about`.
    """

    kind: Kind
    rows: Sequence[Mapping[str, Any]]
    title: str
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it: what it is about, units, and rows that all have all columns."""
        own = {OF_TARGET: self.about.get("unit")}
        units = {column.key: own.get(str(column.unit), column.unit) for column in self.kind.columns}
        rows = [
            {column.key: _plain(row.get(column.key)) for column in self.kind.columns} for row in self.rows
        ]
        about = {column.key: _plain(self.about.get(column.key)) for column in self.kind.about}
        return {**about, "units": {key: unit for key, unit in units.items() if unit}, "rows": rows}


def _plain(value: Any) -> Any:
    """A value without what JSON has no word for: NumPy's numbers, and NaN, which is a missing one."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else value


def name(key: str, head: str | None = None) -> Column:
    """A column of names or words."""
    return Column(key, head=head)


def count(key: str, head: str | None = None, unit: str | None = None) -> Column:
    """A column of numbers of things."""
    return Column(key, int, unit, head, None if unit else "d")


def number(
    key: str, unit: str | None, format: str | Callable[[float], str], head: str | None = None
) -> Column:
    """A column of measured or computed numbers."""
    return Column(key, float, unit, head, format)


def interval(
    unit: str | None, format: str | Callable[[float], str], keys: tuple[str, str] = ("lower", "upper")
) -> tuple[Column, Column]:
    """Two columns: the ends of an interval."""
    lower, upper = (number(key, unit, format) for key in keys)
    return lower, replace(upper, is_joined=True)


def percent(share: float) -> str:
    """A share or a correlation as a person reads it under a head that says percent."""
    return f"{100 * share:.1f}"


_DOMAIN, _MIXTURE = name("domain"), name("mixture")
_INTERVAL = interval(OF_TARGET, ".4f")
_TARGET = (name("target"), name("unit"), name("direction"))
_SPEAKS_OF = (*_TARGET, Column("coverage", float))
_PROMISED = (
    *(number("promised", OF_TARGET, ".4f"), number("measured", OF_TARGET, ".4f")),
    *(number("deviation", OF_TARGET, ".4f", "+-"), number("difference", OF_TARGET, "+.4f", "missed")),
    *(*_INTERVAL, count("seeds")),
)

CORPUS = Kind(
    "corpus",
    (
        *(_DOMAIN, count("tokens", unit=TOKENS), number("prior", SHARE, ".3f"), count("documents")),
        *(count("left_out", "left out"), count("rows"), count("files"), count("bytes", unit=BYTES)),
        count("validation_tokens", "validation tokens", TOKENS),
    ),
)
WEIGHTS = Kind(
    "weights",
    (
        *(_DOMAIN, number("prior", SHARE, ".3f"), number("lowest", SHARE, ".3f")),
        *(number("mean", SHARE, ".3f"), number("highest", SHARE, ".3f")),
        count("mixtures_without", "mixtures without"),
    ),
    (Column("mixtures", dict[str, int]),),
)
PROXY_RUNS = Kind("proxy_runs", (name("status"), count("runs"), count("tokens", unit=TOKENS)))
PROXY_LOSSES = Kind(
    "proxy_losses",
    (_DOMAIN, name("scale", "of"), *(number(key, NATS, ".4f") for key in ("lowest", "mean", "highest"))),
)
PROXY_TARGETS = Kind(
    "proxy_targets",
    (
        *(name("target"), name("unit"), name("scale", "of")),
        *(number(key, None, ".4f") for key in ("lowest", "mean", "highest")),
    ),
)
SIZE_AGREEMENT = Kind(
    "size_agreement",
    (
        *(name("target"), number("spearman", None, percent, "spearman (%)")),
        *(*interval(None, percent, ("low", "high")), name("says")),
        *(Column("small", for_machines=True), Column("large", for_machines=True)),
        Column("num_mixtures", int, for_machines=True),
    ),
)
CARRIES = Kind(
    "targets_that_carry",
    (
        *(name("target"), number("signal", None, ".1f"), number("spearman", None, percent, "spearman (%)")),
        *(number("spread", None, ".4f"), number("noise", None, ".4f"), name("unit")),
    ),
)
FINAL_RUNS = Kind(
    "final_runs",
    (
        *(_MIXTURE, count("seed"), name("status"), number("mean", NATS, ".4f")),
        Column("loss", dict[str, float | None], NATS, format=".4f"),
    ),
)
QUALITY_OF_ALL = Kind(
    "held_out_quality",
    (*map(name, QUALITY.texts), *(Column(key, float, format=".4f") for key in QUALITY.numbers)),
)
QUALITY_OF_TARGET = Kind(
    "quality_of_target",
    (
        *(name("estimator"), count("runs"), name("spearman", "spearman (%)"), name("mae")),
        *(name("pearson", "pearson (%)"), name("regret"), name("mse")),
    ),
)
CHOSEN = Kind(
    "chosen_mixture",
    (
        *(_DOMAIN, number("prior", SHARE, ".3f"), number("weight", SHARE, ".3f", "chosen")),
        *(number("change", SHARE, "+.3f"), number("epochs", "epochs", ".2f")),
    ),
)
GROUPS = Kind(
    "groups",
    (
        *(name("group"), name("domains"), number("prior", SHARE, ".3f")),
        number("weight", SHARE, ".3f", "chosen"),
        *(number("min", SHARE, ".3f"), number("max", SHARE, ".3f"), name("held_at", "held at")),
    ),
)
PREDICTED = Kind(
    "predicted",
    (
        *(name("target"), *(Column(key, for_machines=True) for key in ("unit", "direction"))),
        *(number("prior", None, ".4f"), number("chosen", None, ".4f")),
        *(number("change", None, "+.4f"), *interval(None, ".4f")),
    ),
    (Column("coverage", float),),
)
PREDICTED_TARGET = Kind(
    "predicted_target",
    (_MIXTURE, number("value", OF_TARGET, ".4f", "loss"), *_INTERVAL),
    (*_SPEAKS_OF, name("of")),
)
VERDICT = Kind("verdict", (name("verdict"), name("because")))
PROMISES = Kind("promises", (_MIXTURE, *_PROMISED), _SPEAKS_OF)
TRIED = Kind(
    "choice_as_tried",
    (count("round"), name("tried_at", "tried at"), *_PROMISED),
    (name("unit"), Column("coverage", float)),
)
SIZES = Kind("sizes", (name("loss"), name("parameters"), count("tokens", unit=TOKENS)))
AGREEMENT = Kind("agreement", (name("metric"), number("value", None, ".3f")))
HELD_OUT = Kind(
    "held_out_correlation",
    (
        *(name("estimator"), number("spearman", None, percent, "spearman (%)")),
        *(*interval(None, percent), count("runs")),
    ),
)
FINAL = Kind(
    "final_models",
    (
        *(_MIXTURE, number("value", OF_TARGET, ".4f", "loss"), count("seeds")),
        number("deviation", OF_TARGET, ".4f", "+-"),
    ),
    _TARGET,
)
AGAINST = Kind(
    "chosen_against_others",
    (
        *(_MIXTURE, name("outcome", "the chosen one is")),
        *(number("gain", OF_TARGET, "+.4f"), *interval(OF_TARGET, "+.4f")),
    ),
    _TARGET,
)
SCORES_OF_ALL = Kind(
    "scores",
    (
        *map(name, (*SCORES.texts, "domain")),
        *(count("seed"), count("num_fewshot"), count("num_samples")),
        *(number("value", None, ".4f"), number("stderr", None, ".4f")),
    ),
)
SCORES_OF_MIXTURES = Kind(
    "scores_of_mixtures",
    (
        *(name("task"), name("metric"), name("promised", "chosen, promised of a proxy")),
        Column("value", dict[str, str | None]),
    ),
)
PLAN = Kind(
    "plan",
    (
        *(name("stage"), name("rung", "of"), name("state")),
        *(count("runs"), count("left"), number("seconds", SECONDS, duration, "time")),
        *(count("tokens", unit=TOKENS), number("flops", "floating_point_operations", ".1e", "FLOPs")),
        number("gpu_hours", "hours", ".1f", "GPU hours"),
        *(count("disk_bytes", "disk (bytes)", BYTES), count("download_bytes", "download (bytes)", BYTES)),
    ),
)
STAGES = Kind(
    "stages",
    (
        *(name("stage"), name("state"), name("reason"), count("left"), count("runs_done", "runs done")),
        *(count("failed"), count("running"), number("seconds_left", SECONDS, duration, "time left")),
        name("folder"),
    ),
)
RUNGS = Kind(
    "rungs",
    (
        *(name("rung", "of"), name("scale"), count("num_train_tokens", "tokens a run", TOKENS)),
        *(count("left"), count("runs_done", "runs done"), count("failed"), count("running")),
        number("seconds_left", SECONDS, duration, "time left"),
    ),
)
RUNNING = Kind(
    "running",
    (
        *(name("run"), name("host"), count("pid"), name("since")),
        Column("tokens_per_second", float, "tokens_per_second", "tokens/s"),
    ),
)
QUEUE = Kind("queue", tuple(map(name, ("job", "state", "nodes", "time", "reason"))))
JOBS = Kind(
    "jobs",
    (
        *(name("job"), name("shard"), name("state"), name("flavor")),
        *(number("usd_per_hour", "usd_per_hour", ".2f", "USD/hour"), number("hours", "hours", ".2f")),
        number("usd", "usd", ".2f", "USD"),
    ),
)
FAILED = Kind("failed", (count("runs"), name("first"), name("why")))
FOUND_DOMAINS = Kind(
    "domains", (_DOMAIN, count("files"), count("documents"), count("bytes", "text (bytes)", BYTES))
)
PUBLISHED = Kind(
    "repositories", tuple(map(name, ("repository", "kind", "changed", "address"))), (name("version"),)
)
PULLED = Kind("commits", (name("repository"), name("commit")), (name("version"),))
ENVIRONMENT = Kind("environment", (name("what"), name("value")))

_ANSWER = (
    *(VERDICT, TRIED, PROMISES, SIZES, AGREEMENT, CHOSEN, GROUPS, PREDICTED_TARGET, HELD_OUT, FINAL),
    AGAINST,
)
_MEASURED = (PROMISES, SIZES, AGREEMENT, SCORES_OF_ALL)
_STAGES: dict[str, tuple[Kind, ...]] = {
    "prepare": (CORPUS,),
    "sample": (WEIGHTS,),
    "proxies": (PROXY_RUNS, PROXY_LOSSES, PROXY_TARGETS, PLAN),
    "fit": (QUALITY_OF_ALL, SIZE_AGREEMENT, CARRIES),
    "choose": (CHOSEN, GROUPS, PREDICTED_TARGET, PREDICTED, TRIED),
    "train": (FINAL_RUNS,),
    "evaluate": (*_MEASURED, PLAN),
    "report": (),
}
#: Which tables a verb prints with `--format json`; not all of them every time.
OF_VERB: dict[str, tuple[Kind, ...]] = {
    **_STAGES,
    "run": tuple(dict.fromkeys((*_ANSWER, PLAN, *(kind for kinds in _STAGES.values() for kind in kinds)))),
    "init": (FOUND_DOMAINS,),
    "status": (STAGES, RUNGS, RUNNING, QUEUE, JOBS, FAILED),
    "push": (PUBLISHED,),
    "pull": (PULLED,),
}
