"""Checks that need more than one key of the recipe: names that must exist, bounds that must leave room."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable

from regmix_hf.errors import RecipeError, RegressionError, did_you_mean
from regmix_hf.quantities import BPB, COLUMN_KINDS, FROM_LIKELIHOODS, is_metric, read_names
from regmix_hf.readable import count_of
from regmix_hf.recipe.model import Base
from regmix_hf.recipe.schema import BUILT_IN_MIXTURES, CHOSEN, HOLDOUT, PARTS, Recipe
from regmix_hf.recipe.target import TARGET_WORDS, AskedTarget, is_pattern
from regmix_hf.recipe.training import TASK_PATTERN

#: Keys that are the same for proxies of all sizes: what they are measured on, who trains them, what is read.
_SHARED_BY_RUNGS = ("tasks", "metrics", "task_limit", "num_workers", "match_repetition")


def check_recipe(recipe: Recipe) -> None:
    """Check what the schema cannot see.

    Raises:
        RecipeError: At the first key that names something that does not exist or that contradicts another.
    """
    if not recipe.training_domains:
        raise RecipeError("domains: every domain is `validation_only`, so there is nothing to train on.")
    _check_tasks(recipe)
    _check_target(recipe)
    _check_bounds(recipe)
    _check_base(recipe)
    _check_kept(recipe)
    _check_sampling(recipe)
    _check_ladder(recipe)
    _check_baselines(recipe)
    _check_repositories(recipe)
    trainings = {**recipe.rungs, "train": recipe.train}
    for section, training in trainings.items():
        if training.num_train_tokens < recipe.context_length:
            raise RecipeError(
                f"{section}.num_train_tokens {training.num_train_tokens} is less than one block of "
                f"context_length {recipe.context_length} tokens."
            )
    for section, rung in recipe.rungs.items():
        lengths = rung.num_train_tokens, recipe.train.num_train_tokens
        if rung.match_repetition and lengths[0] > lengths[1]:
            raise RecipeError(
                f"{section}.match_repetition: a proxy of {lengths[0]} tokens is longer than a final run of "
                f"{lengths[1]}, so to repeat as rarely it would need more text than there is.",
                f"shorten {section}.num_train_tokens, or leave {section}.match_repetition out",
            )
    if recipe.choice.top_k > recipe.choice.num_candidates:
        raise RecipeError(
            f"choice.top_k {recipe.choice.top_k} is above "
            f"choice.num_candidates {recipe.choice.num_candidates}."
        )


def _check_sampling(recipe: Recipe) -> None:
    """Check that there is something to choose by, and that its numbers fit each other."""
    sampling, trains_none = recipe.sampling, recipe.sampling.num_mixtures == 0 and recipe.runs is None
    if sampling.min_strength > sampling.max_strength:
        raise RecipeError(
            f"sampling.min_strength {sampling.min_strength} is above "
            f"sampling.max_strength {sampling.max_strength}."
        )
    if trains_none and not sampling.experts:
        raise RecipeError(
            "sampling.num_mixtures 0: nothing is left to choose by.",
            "write sampling.experts: true, too, and regression.estimators: [experts]",
        )
    asked = AskedTarget.of(recipe.regression.target)
    if trains_none and (scores := [n for n in asked.names if "/" in n and not n.startswith(BPB)]):
        raise RecipeError(
            f"regression.target: experts tell nothing of {scores[0]!r}, and with sampling.num_mixtures 0 "
            "nobody else does.",
            "take the right answers of the task, bpb/<task>, or write sampling.num_mixtures: 8, say",
        )
    if trains_none and asked.is_scaled:
        raise RecipeError(
            "regression.target counts in standard deviations over the runs, and with sampling.num_mixtures 0 "
            "there are none.",
            "leave `scale` out, or write sampling.num_mixtures: 8, say",
        )
    if 2 * sampling.num_repeats > sampling.num_mixtures:
        raise RecipeError(
            f"sampling.num_repeats {sampling.num_repeats} is more than half of "
            f"sampling.num_mixtures {sampling.num_mixtures}, of which they are part.",
            "repeat fewer; 4 tell the noise between seeds",
        )


def _check_repositories(recipe: Recipe) -> None:
    """Refuse names that the Hub takes not, which nobody could change any more when all is trained."""
    if recipe.hub is None:
        return
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    models = [name for name in recipe.train.mixtures if name != HOLDOUT]
    for name in models:
        if name in PARTS:
            raise RecipeError(
                f"train.mixtures: the model of {name!r} would be called {recipe.name}-{name} on the Hub, as "
                "another repository of the study is.",
                "give the mixture another name in `baselines` and `train.mixtures`",
            )
    for name in (*PARTS, *models):
        repository = f"{recipe.hub.namespace}/{recipe.name}-{name}"
        try:
            validate_repo_id(repository)
        except HFValidationError as error:
            key = "name" if name in PARTS else "train.mixtures"
            raise RecipeError(
                f"{key}: the Hub takes no repository that is called {repository!r}: {error}",
                "write letters, digits and single `-`, `_` or `.` between them, 96 characters in all",
            ) from None
        if repository.count("/") != 1:
            raise RecipeError(
                f"hub.namespace {recipe.hub.namespace!r} is no name of a user or an organisation."
            )


def _check_names(key: str, names: Iterable[str], known: Iterable[str], kind: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise RecipeError(f"{key}: {name!r} is no {kind}; {did_you_mean(name, known)}")


def _check_tasks(recipe: Recipe) -> None:
    """Check the names of `proxy.tasks`, which become columns beside those of domains."""
    tasks = recipe.proxy.tasks
    for name in tasks:
        if name == "held_out_text":
            raise RecipeError(
                "proxy.tasks: 'held_out_text' is measured of every run already.",
                "leave it out; it is bpb/<domain> of every domain",
            )
        if name in recipe.domains:
            raise RecipeError(
                f"proxy.tasks: {name!r} is also a domain, and both would be bpb/{name}.",
                "give the domain another name",
            )
        if tasks.count(name) > 1:
            raise RecipeError(f"proxy.tasks names {name!r} more than once.")
    for name in recipe.proxy.metrics:
        _check_metric(name, recipe.proxy.metrics)


def _check_metric(name: str, metrics: list[str]) -> None:
    """Check one of `proxy.metrics`, which is a column, as far as its name goes."""
    task, slash, metric = name.partition("/")
    if not slash or not re.fullmatch(TASK_PATTERN, task) or task in COLUMN_KINDS:
        raise RecipeError(
            f"proxy.metrics: {name!r} is no metric of a task.", "write TASK/METRIC, e.g. arc_easy/acc_norm"
        )
    if metric in FROM_LIKELIHOODS:
        if metrics.count(name) > 1:
            raise RecipeError(f"proxy.metrics names {name!r} more than once.")
    elif is_metric(metric.partition(",")[0]):
        raise RecipeError(
            f"proxy.metrics: {metric!r} of {task!r} judges what a model writes, which no proxy is asked for.",
            f"proxy.tasks: [{task}] scores its right answers instead, as bpb/{task}; `evaluation.tasks` "
            "lets final models write",
        )
    else:
        known = did_you_mean(metric, FROM_LIKELIHOODS)
        raise RecipeError(f"proxy.metrics: {name!r}: proxies are judged by no metric {metric!r}; {known}")


def _check_target(recipe: Recipe) -> None:
    """Refuse what no run of the study measures; what runs of others hold is seen when they are read."""
    target = recipe.regression.target
    asked = AskedTarget.of(target)
    names = [name for name in asked.names if not is_pattern(name)]
    if recipe.runs is None:
        words = TARGET_WORDS if isinstance(target, str) else ()
        _check_names(
            "regression.target", [n for n in names if "/" not in n], [*recipe.domains, *words], "domain"
        )
        scored = [*recipe.domains, *recipe.proxy.tasks]
        bits = [name.removeprefix(BPB) for name in names if name.startswith(BPB)]
        for name in (name for name in bits if name not in scored):
            _check_mistyped("proxy.tasks", name, recipe.proxy.tasks, BPB)
        _check_names("regression.target", bits, scored, "domain or task")
        for name in names:
            if "/" in name and not name.startswith(BPB) and name not in recipe.proxy.metrics:
                _check_metric(name, [])
                alike = [
                    one for one in recipe.proxy.metrics if one.partition("/")[2] == name.partition("/")[2]
                ]
                _check_mistyped("proxy.metrics", name, alike)
                raise RecipeError(
                    f"regression.target: {name!r} is measured of no proxy.",
                    f"write proxy.metrics: [{', '.join([*recipe.proxy.metrics, name])}]",
                )
        measured = [*recipe.domains, *(f"{BPB}{name}" for name in scored), *recipe.proxy.metrics]
        for pattern in filter(is_pattern, asked.names):
            if not fnmatch.filter(measured, pattern):
                raise RecipeError(
                    f"regression.target: no target of this study is called as {pattern!r}.",
                    f"there are {', '.join(measured)}",
                )
        names += [name for name in measured if name not in names and name in asked.among(measured)]
    try:
        asked.check_one_direction(read_names(names, recipe.domains, asked.directions).values())
    except RegressionError as error:
        raise RecipeError(f"regression.target: {error.message}", error.hint) from None


def _check_mistyped(key: str, asked: str, given: list[str], kind: str = "") -> None:
    """Name the task where a target is called nearly like one: lm-eval, which knows them, is not asked."""
    if close := difflib.get_close_matches(asked, given, n=1, cutoff=0.8):
        raise RecipeError(
            f"{key}: {close[0]!r} is scored, and regression.target names {kind}{asked}, which is not; "
            f"did you mean {asked!r}?",
            f"write it there, or, if the task is {close[0]!r}, regression.target: {kind}{close[0]}",
        )


def _check_bounds(recipe: Recipe) -> None:
    for section in ("sampling", "choice"):
        bounds = getattr(recipe, section)
        kinds = ("min", "max") if section == "sampling" else ("min", "max", "fixed")
        for kind in kinds:
            _check_names(
                f"{section}.{kind}", getattr(bounds, kind), recipe.training_domains, "training domain"
            )
        for name in bounds.min.keys() & bounds.max.keys():
            if bounds.min[name] > bounds.max[name]:
                raise RecipeError(
                    f"{section}: {name!r} has min {bounds.min[name]} above its max {bounds.max[name]}."
                )
    for name, group in recipe.choice.groups.items():
        _check_names(f"choice.groups.{name}", group.domains, recipe.training_domains, "training domain")


def _check_base(recipe: Recipe) -> None:
    """Check the model of the study's own that proxies start from."""
    base = recipe.proxy.model.pretrained
    if isinstance(base, Base):
        known = [*(name for name in BUILT_IN_MIXTURES if name != CHOSEN), *recipe.baselines]
        _check_names("proxy.model.pretrained.mixture", [base.mixture], known, "mixture that is known before")
        if base.num_train_tokens < recipe.context_length:
            raise RecipeError(
                f"proxy.model.pretrained.num_train_tokens {base.num_train_tokens} is less than one block of "
                f"context_length {recipe.context_length} tokens."
            )
    if isinstance(recipe.train.model.pretrained, Base) and recipe.train.model != recipe.proxy.model:
        raise RecipeError(
            "train.model.pretrained: a model of the study's own is trained for proxies, and final models can "
            "start from that one only.",
            "write the same under train.model as under proxy.model, or name a model or a folder",
        )


def _check_kept(recipe: Recipe) -> None:
    """Refuse to keep models where they would stay behind: only their results come from there."""
    executor = recipe.executor
    where = (
        "executor.place: jobs" if executor.place == "jobs" else "executor.shard" if executor.shard else None
    )
    for section, rung in recipe.rungs.items():
        if rung.keep_models is None:
            continue
        if where is not None:
            raise RecipeError(
                f"{section}.keep_models {rung.keep_models!r}: with {where} models would stay on the machines "
                "that train them, from which only results come here.",
                f"leave {section}.keep_models out, or train on this machine, on Ray or on Slurm",
            )
        if rung.keep_models == "experts" and not recipe.sampling.experts:
            raise RecipeError(
                f"{section}.keep_models 'experts': the study trains none.",
                f"write sampling.experts: true, or {section}.keep_models: all",
            )


def _check_ladder(recipe: Recipe) -> None:
    """Check what proxies of several sizes or lengths need, and what all of them share."""
    for number, rung in enumerate(recipe.proxies):
        section, count = f"proxies.{number}", rung.num_mixtures
        if number == 0 and count is not None:
            raise RecipeError(
                f"{section}.num_mixtures: the first of `proxies` is the swarm, and sampling.num_mixtures "
                f"{recipe.sampling.num_mixtures} counts it.",
                "leave it out there",
            )
        once = recipe.sampling.num_mixtures - recipe.sampling.num_repeats
        if number and once == 0:
            raise RecipeError(
                f"{section} trains mixtures of the swarm at another size, and sampling.num_mixtures is 0.",
                "write sampling.num_mixtures: 32, say; or `proxy` in the place of `proxies`, where experts "
                "alone choose",
            )
        if number and (count is None or count > once):
            raise RecipeError(
                f"{section}.num_mixtures {'is missing' if count is None else count}: give how many of the "
                f"swarm's {count_of(once, 'mixture')} to train so, too.",
                "12 to 32 tell how a larger size differs; one of its own needs ten for intervals",
            )
        for key in _SHARED_BY_RUNGS:
            if getattr(rung, key) != getattr(recipe.proxy, key):
                raise RecipeError(
                    f"{section}.{key} is {getattr(rung, key)!r}, of the first of `proxies` "
                    f"{getattr(recipe.proxy, key)!r}: all share it.",
                    "say it in the first alone",
                )
        if bool(rung.training_args.get("use_cpu")) != bool(recipe.proxy.training_args.get("use_cpu")):
            raise RecipeError(
                f"{section}.training_args.use_cpu: the first of `proxies` says otherwise.",
                "say it in the first alone",
            )
        if number and isinstance(rung.model.pretrained, Base):
            raise RecipeError(
                f"{section}.model.pretrained: a model of the study's own is of one size, and `proxies` are "
                "of several.",
                "name a model or a folder, or write `proxy`",
            )
        _check_differs(recipe, number)


def _check_differs(recipe: Recipe, number: int) -> None:
    rung = recipe.proxies[number]
    for before in recipe.proxies[:number]:
        if (rung.model, rung.num_train_tokens) == (before.model, before.num_train_tokens):
            raise RecipeError(
                f"proxies.{number} has the model and the length of one before it.",
                "give it another model or another num_train_tokens",
            )
        if rung.scale is not None and rung.scale == before.scale and rung.model != before.model:
            raise RecipeError(
                f"proxies.{number}.scale {rung.scale!r} is that of one before it, whose model is another.",
                "give each model a scale of its own, or leave `scale` out",
            )


def _check_baselines(recipe: Recipe) -> None:
    taken = (*BUILT_IN_MIXTURES, HOLDOUT)
    for name, weights in recipe.baselines.items():
        if name in taken:
            raise RecipeError(f"baselines.{name}: the name is taken; {', '.join(taken)} always exist.")
        _check_names(f"baselines.{name}", weights, recipe.training_domains, "training domain")
        if sum(weights.values()) <= 0:
            raise RecipeError(
                f"baselines.{name}: the weights sum to {sum(weights.values())}; give one above 0."
            )
    folders = [f"{name}-seed-{k}" for name in recipe.train.mixtures for k in range(1, recipe.train.num_seeds)]
    for name in recipe.baselines:
        if name in folders or name == "tasks":
            raise RecipeError(f"baselines.{name}: a folder of the study has this name; choose another.")
    _check_names("train.mixtures", recipe.train.mixtures, [*taken, *recipe.baselines], "mixture")
    if HOLDOUT in recipe.train.mixtures and not recipe.sampling.num_holdout:
        raise RecipeError("train.mixtures names 'holdout', but sampling.num_holdout is 0.")
    repeated = {name for name in recipe.train.mixtures if recipe.train.mixtures.count(name) > 1}
    if repeated:
        raise RecipeError(f"train.mixtures names {sorted(repeated)[0]!r} more than once.")
