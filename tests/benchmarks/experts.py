"""What experts are worth beside a swarm: `python -m tests.benchmarks.experts STUDY [--repeats 10]`.

STUDY is the folder of a study with experts and mixtures, all of whose proxies have ended, e.g. of

    regmix run recipes/quickstart --to proxies output_dir=STUDY sampling.num_mixtures=48

Nothing is trained: budgets are made of the runs that are there. Of N runs all are mixtures, or one per
domain is an expert and the rest are mixtures, or all are experts. Each way is judged by runs that it did not
see, over random subsets, by Spearman's correlation and the mean absolute error, in each target and in their
mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from regmix_hf import load_runs
from regmix_hf.quantities import BPB
from regmix_hf.regression.expert_tokens import expert_tokens
from regmix_hf.regression.metrics import measure
from regmix_hf.regression.registry import build_estimator, estimator_class
from regmix_hf.regression.regressor import own_domains
from regmix_hf.runs import Runs
from regmix_hf.seeds import generator

BUDGETS = (8, 16, 24, 32, 48)
#: What is fitted on mixtures alone.
LAWS = ("power_law", "ridge")
#: With fewer unseen mixtures nothing is judged.
LEAST_TESTS = 7


def quality(runs: Runs, tests: np.ndarray, predicted: pd.DataFrame) -> dict[str, float]:
    """Rank correlation in percent, mean over targets and of their mean; mean absolute error of losses."""
    truth = runs.losses.iloc[tests]
    single = [measure(truth[name], predicted[name]) for name in runs.targets]
    pairs = list(zip(single, runs.targets, strict=True))
    mean = measure(truth.mean(axis=1), predicted.mean(axis=1))
    return {
        "ranks": 100 * float(np.mean([one["spearman"] for one in single])),
        "error": float(np.mean([one["mae"] for one, name in pairs if not name.startswith(BPB)])),
        "ranks of the mean": 100 * mean["spearman"],
        **{f"ranks of {name}": 100 * one["spearman"] for one, name in pairs},
    }


class Fitted:
    """A family on some of the runs, without the cross-validation of `MixtureRegressor`."""

    def __init__(self, runs: Runs, estimator: str, rows: np.ndarray):
        self._runs, self._model = runs, build_estimator(estimator, 0, {})
        names = (runs.targets, runs.domains)
        self._model.fit(
            runs.weights.iloc[rows].to_numpy(),
            runs.losses.iloc[rows].to_numpy(),
            own_domains=own_domains(*names),
            experts=expert_tokens(runs.experts, *names, required=self._model.needs_experts),
        )

    def predict(self, rows: np.ndarray) -> pd.DataFrame:
        """What it says of some of the runs, runs x targets."""
        found = self._model.predict(self._runs.weights.iloc[rows].to_numpy())
        return pd.DataFrame(found, self._runs.weights.index[rows], self._runs.targets)


def num_experts(runs: Runs) -> int:
    """How many experts there are."""
    return len(runs.experts) if runs.experts is not None else 0


Way = tuple[str, str, int, list[Fitted]]


def ways(runs: Runs, budget: int, pool: np.ndarray) -> Iterator[Way]:
    """Ways to spend a budget: a name, what predicts, how many mixtures it takes, what was fitted on them.

    Those that take more mixtures than the pool has are left out.
    """
    for law in LAWS:
        if len(pool) >= budget >= estimator_class(law).min_runs(len(runs.domains)):
            yield "swarm only", law, budget, [Fitted(runs, law, pool[:budget])]
    rest = budget - num_experts(runs)
    if rest == 0:
        yield "experts only", "experts", 0, [Fitted(runs, "experts", pool[:0])]
    if len(pool) >= rest > 0:
        own = Fitted(runs, "experts", pool[:rest])
        yield "both", "experts", rest, [own]
        if rest >= estimator_class("experts_and_law").min_runs(len(runs.domains)):
            yield "both", "experts_and_law", rest, [Fitted(runs, "experts_and_law", pool[:rest])]
        for law in LAWS:
            if rest >= estimator_class(law).min_runs(len(runs.domains)):
                yield "both", f"mean of experts and {law}", rest, [own, Fitted(runs, law, pool[:rest])]
        if rest >= estimator_class("auto").min_runs(len(runs.domains)):
            yield "both", "auto", rest, [Fitted(runs, "auto", pool[:rest])]


def table(runs: Runs, budgets: Sequence[int], repeats: int) -> pd.DataFrame:
    """Quality of every way to spend every budget: mean and standard deviation over random subsets."""
    mixture = runs.weights.groupby(list(runs.domains), sort=False).ngroup().to_numpy()
    once = np.flatnonzero(~pd.Series(mixture).duplicated())
    counts = [count for budget in budgets for count in (budget, budget - num_experts(runs))]
    most = max((count for count in counts if 0 <= count <= len(once) - LEAST_TESTS), default=0)
    rows = []
    for repeat in range(repeats):
        order = generator(0, "budget", repeat).permutation(once)
        pool, tests = order[:most], order[most:]
        for budget in budgets:
            for way, predicts, count, models in ways(runs, budget, pool):
                predicted = sum(model.predict(tests) for model in models) / len(models)
                labels = {"runs": budget, "spent on": way, "predicts": predicts, "mixtures": count}
                rows.append({**labels, "tested on": len(tests), **quality(runs, tests, predicted)})
    labels = ["runs", "spent on", "predicts", "mixtures", "tested on"]
    groups = pd.DataFrame(rows).groupby(labels, sort=False)
    mean, deviation = groups.mean(), groups.std().add_suffix(" +-")
    return pd.concat(
        [mean, deviation[["ranks +-", "error +-", "ranks of the mean +-"]]], axis=1
    ).reset_index()


def main() -> None:
    """Print what experts alone rank, and the table of budgets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--budgets", type=int, nargs="*", default=list(BUDGETS))
    arguments = parser.parse_args()
    runs = load_runs(arguments.study)
    if runs.experts is None:
        parser.error(f"{arguments.study} has no experts")
    if len(runs.weights.drop_duplicates()) < LEAST_TESTS:
        parser.error(f"{arguments.study} has fewer than {LEAST_TESTS} different mixtures to judge by")
    alone = Fitted(runs, "experts", np.arange(0))
    every = np.arange(len(runs))
    found = quality(runs, every, alone.predict(every))
    print(f"{len(runs.experts)} experts alone, all {len(runs)} other runs:")
    print(pd.Series(found).round(3).to_string())
    print(f"\nmean and deviation over {arguments.repeats} random subsets:")
    spent = table(runs, arguments.budgets, arguments.repeats)
    print(spent.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
