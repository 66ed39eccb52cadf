"""Metrics of lm-eval by name: those that a task measures, and of them those that proxies can be judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from regmix_hf.errors import RecipeError, did_you_mean
from regmix_hf.evaluation.tasks import configs_of
from regmix_hf.quantities import FROM_LIKELIHOODS

#: Of the recipe, where they stand.
KEY = "proxy.metrics"


def check_metrics(judged: Mapping[str, Sequence[str]], include_path: str | None = None) -> None:
    """Refuse metrics by what the files of tasks say; what only code defines is looked at when it is loaded.

    `check_task_names` has taken the tasks and groups whose metrics these are.

    Raises:
        RecipeError: At the first metric that is none.
    """
    for name, config in configs_of(list(judged), include_path).items():
        check_config(name, judged[name], config)


def check_config(name: str, metrics: Iterable[str], config: Mapping[str, Any]) -> None:
    """Refuse metrics that a task or group, as its file has it, does not measure or proxies cannot.

    Raises:
        RecipeError: At the first such metric.
    """
    if "group" in config:
        listed = config.get("aggregate_metric_list") or []
        known = [str(one["metric"]) for one in (listed if isinstance(listed, list) else [listed])]
        for metric in metrics:
            if metric not in known:
                more = did_you_mean(metric, known) if known else "name its tasks, or let proxy.tasks score it"
                raise RecipeError(f"{KEY}: lm-eval has no {metric!r} of the group {name!r}.", more)
        return
    for metric in metrics:
        if why := _why_not(config):
            raise RecipeError(
                f"{KEY}: {metric!r} of {name!r} {why}.",
                f"proxy.tasks: [{name}] scores its right answers instead, as bpb/{name}",
            )
        known = _metrics_of(config)
        if metric not in known:
            measurable = [one for one in known if one in FROM_LIKELIHOODS]
            raise RecipeError(
                f"{KEY}: lm-eval measures no {metric!r} of {name!r}.", did_you_mean(metric, measurable)
            )


def _why_not(config: Mapping[str, Any]) -> str | None:
    kind = config.get("output_type")
    if config.get("class") is not None or config.get("process_results") is not None:
        return "is computed by code of the task's own, which proxies do not run"
    if kind == "generate_until":
        return "judges what a model writes, which proxies are not asked for"
    if config.get("filter_list") is not None:
        return "is computed from filtered answers, which proxies do not give"
    return None


def _metrics_of(config: Mapping[str, Any]) -> list[str]:
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    if config.get("metric_list") is None:
        return list(DEFAULT_METRIC_REGISTRY.get(str(config.get("output_type")), ()))
    return [str(one["metric"]) for one in config["metric_list"]]
