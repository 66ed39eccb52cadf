"""What a budget of runs buys: `python -m tests.benchmarks.budgets RECIPE [KEY=VALUE]... --targets NAME...`.

RECIPE is that of a study whose table of mixtures holds a pool to fit on, mixtures to hold out, and experts:

    regmix run RECIPE --to sample sampling.experts=true sampling.num_mixtures=48 sampling.num_holdout=12

Its proxies are trained, as `regmix proxies` does. Then every way to spend a budget chooses, twice, from other
mixtures of the pool each time, as `regmix choose` does when forced. Every choice is trained as a proxy, with
the seed of its time, beside uniform, prior and the pool's best mixture of each target. What is done stays in
the study's folder; killed and started again it goes on. At the end it prints how well each way ranks mixtures
that it did not see (`tests.benchmarks.experts`), and what its choice measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from regmix_hf import MixtureRegressor, load_recipe, load_runs
from regmix_hf.choice.choose import ChoiceProblem
from regmix_hf.files import write_json
from regmix_hf.jobs.devices import Slot, num_cores
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.jobs.results import result_of
from regmix_hf.mixtures import around_prior, sampling_constraints
from regmix_hf.mixtures.final import final_constraints, given_mixture
from regmix_hf.mixtures.repetition import longest_reading
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.progress import Silent
from regmix_hf.quantities import BPB
from regmix_hf.regression.registry import estimator_class
from regmix_hf.regression.target import Target
from regmix_hf.runs import Runs
from regmix_hf.seeds import generator, seed_of
from regmix_hf.stages import proxies
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.spec import RunSpec, proxy_specs
from tests.benchmarks.experts import BUDGETS, num_experts, table

#: Of the choices: each time from other mixtures of the pool, trained with another seed.
TIMES = (0, 1)
MEAN, SWARM, EXPERTS, BOTH, KNOWN = "mean", "swarm only", "experts only", "both", "known before"
#: The folder of all this in that of the study.
_FOLDER = "budgets"


@dataclass(frozen=True)
class Way:
    """A way to spend a budget.

    Attributes:
        runs: All in all; 0 of what is known without any.
        spent_on: In words.
        predicts: The family that chooses.
        mixtures: How many of the runs are mixtures.
        time: Which.
    """

    runs: int
    spent_on: str
    predicts: str
    mixtures: int
    time: int


@dataclass(frozen=True)
class Chosen(Way):
    """What a way chose for a target."""

    target: str
    weights: dict[str, float]


def ways(num_domains: int, budgets: Sequence[int]) -> Iterator[Way]:
    """All ways that can choose, for a family needs so many runs. Mixtures change no choice of experts."""
    for time in TIMES:
        yield Way(num_domains, EXPERTS, "experts", 0, time)
    for spent_on, family in (
        (SWARM, "power_law"),
        (BOTH, "experts_and_law"),
        (BOTH, "auto"),
        (SWARM, "auto"),
    ):
        # `auto` on mixtures alone is there to tell what experts add from what the family does.
        for budget in budgets if (spent_on, family) != (SWARM, "auto") else (24, max(budgets)):
            count = budget - num_domains if spent_on == BOTH else budget
            if count >= estimator_class(family).min_runs(num_domains):
                yield from (Way(budget, spent_on, family, count, time) for time in TIMES)


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A study whose proxies have ended, of which budgets are made.

    Attributes:
        study: With corpus, mixtures and proxies.
        targets: Names of what is to be good, or the mean of all training domains.
        runs: The proxies, over what some target speaks of.
        facts: Of the corpus.
        pool: Where choices are trained.
    """

    study: Study
    targets: tuple[str, ...]
    runs: Runs
    facts: CorpusFacts
    pool: Pool

    @classmethod
    def of(cls, study: Study, targets: Sequence[str], pool: Pool) -> Self:
        """Train the proxies that lack."""
        proxies.run(study, Silent(), pool)
        runs, facts = load_runs(study.root), CorpusFacts.load(study.corpus)
        tasks = [name for name in targets if name.startswith(BPB)]
        spoken_of = runs.of_targets([*(name for name in runs.targets if name in facts.domains), *tasks])
        return cls(study, tuple(targets), spoken_of, facts, pool)

    @property
    def fitted(self) -> np.ndarray:
        """Positions of the runs to fit on."""
        return np.flatnonzero(self.runs.split == "fit")

    def of_target(self, target: str) -> list[str]:
        """The columns whose mean a target is."""
        return list(self.facts.training) if target == MEAN else [target]

    def values(self, losses: pd.DataFrame) -> pd.DataFrame:
        """All targets of runs."""
        return pd.DataFrame({name: losses[self.of_target(name)].mean(axis=1) for name in self.targets})

    def choose(self, way: Way) -> list[Chosen]:
        """What one way chooses for each target."""
        order = generator(0, "budget", way.time).permutation(self.fitted)
        part = self.runs.take(order[: way.mixtures])
        experts = None if way.spent_on == SWARM else self.runs.experts
        regressor = MixtureRegressor(way.predicts).fit(part.weights, part.losses, experts=experts)
        found = []
        for name in self.targets:
            target = Target.parse(self.of_target(name), regressor.quantities_, regressor.scales)
            solved = self._problem(regressor, target, part).solve()
            found.append(Chosen(**asdict(way), target=name, weights=dict(solved.weights)))
        return found

    def _problem(self, regressor: MixtureRegressor, target: Target, part: Runs) -> ChoiceProblem:
        recipe, tokens = self.study.recipe, self.facts.available_tokens(self.study.recipe)
        drawn = sampling_constraints(recipe.sampling, tokens, num_train_tokens=longest_reading(recipe))
        return ChoiceProblem(
            regressor=regressor,
            target=target,
            constraints=final_constraints(recipe, tokens),
            sampled=around_prior(self.facts.prior(recipe), recipe.sampling, drawn),
            swarm=part.weights if len(part) else None,
            choice=recipe.choice,
            random_state=recipe.seed,
        )

    def choices(self, budgets: Sequence[int]) -> list[Chosen]:
        """What is known before, and what every way chose; each way is asked once."""
        folder = folder_of(self.study) / "choices"
        folder.mkdir(parents=True, exist_ok=True)
        asked = {
            folder / f"{'-'.join(map(str, asdict(way).values()))}.json": way
            for way in ways(num_experts(self.runs), budgets)
        }

        def write(file: Path, way: Way) -> None:
            write_json(file, [asdict(one) for one in self.choose(way)])

        lacking = [(file, way) for file, way in asked.items() if not file.exists()]
        Parallel(len(self.pool.slots))(delayed(write)(*one) for one in lacking)
        found = [Chosen(**one) for file in asked for one in json.loads(file.read_text())]
        return [*self._known(), *found]

    def _known(self) -> Iterator[Chosen]:
        tokens = self.facts.available_tokens(self.study.recipe)
        pool = self.values(self.runs.losses.iloc[self.fitted])
        for time in TIMES:
            for target in self.targets:
                for name in ("uniform", "prior"):
                    weights = given_mixture(self.study.recipe, name, tokens)
                    yield Chosen(0, KNOWN, name, 0, time, target, weights)
                best = self.runs.weights.loc[pool[target].idxmin()].to_dict()
                yield Chosen(len(pool), SWARM, "the pool's best", len(pool), time, target, best)

    def train(self, choices: Sequence[Chosen]) -> pd.DataFrame:
        """Train all choices; return them with what their runs measured, a column per target."""
        first = proxy_specs(self.study.recipe, self.facts, read_mixtures(self.study.mixtures))[0]
        specs = [self._spec(first, one) for one in choices]
        tasks = proxy_tasks(specs, folder_of(self.study))
        self.pool.run(tasks, ProxyWork(self.study.corpus), Silent())
        rows = {task.spec.run_id: result_of(task) for task in tasks}
        losses = pd.DataFrame([rows[spec.run_id] for spec in specs])
        losses.columns = [name.removeprefix("loss/") for name in losses.columns]
        measured = self.values(losses).add_prefix("measured/")
        chosen = pd.DataFrame(map(asdict, choices)).assign(run=[spec.run_id for spec in specs])
        return pd.concat([chosen, measured], axis=1)

    def _spec(self, first: RunSpec, chosen: Chosen) -> RunSpec:
        seed = seed_of(self.study.recipe.seed, "budgets", chosen.time)
        weights = {name: float(chosen.weights[name]) for name in first.weights}
        return replace(first, mixture_id=chosen.predicts, split="fit", weights=weights, seed=seed)


def folder_of(study: Study) -> Path:
    """Of choices and their runs."""
    return study.root / _FOLDER


def of_choices(measured: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """What each way's choice for a target measured: mean over the times, and half of what they differ by."""
    labels = ["runs", "spent_on", "predicts", "mixtures"]
    columns = {}
    for target in targets:
        own = measured[measured["target"] == target].groupby(labels, sort=False)[f"measured/{target}"]
        columns[target], columns[f"{target} +-"] = own.mean(), (own.max() - own.min()) / 2
    found = pd.DataFrame(columns)
    return found.reset_index().sort_values(["runs", "spent_on"], kind="stable")


def best_known(measured: pd.DataFrame, targets: Sequence[str]) -> pd.Series:
    """The lowest mean over the times of any mixture that was trained, whatever it was chosen for."""
    trained = measured.assign(key=[json.dumps(weights) for weights in measured["weights"]])
    trained = trained.drop_duplicates("run").groupby("key")
    trained = trained.filter(lambda rows: len(rows) == len(TIMES)).groupby("key")
    return pd.Series({name: trained[f"measured/{name}"].mean().min() for name in targets})


def main() -> None:
    """Train, choose, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--workers", type=int, default=num_cores())
    told = parser.parse_intermixed_args()
    study = Study(load_recipe(told.recipe, told.overrides))
    benchmark = Benchmark.of(study, told.targets, Pool([Slot()] * told.workers, folder_of(study)))
    measured = benchmark.train(benchmark.choices(told.budgets))
    measured.to_json(folder_of(study) / "measured.jsonl", orient="records", lines=True)
    print("what the choice measured, mean and half of the difference of two times:")
    print(of_choices(measured, told.targets).round(3).to_string(index=False))
    print("\nbest known:\n" + best_known(measured, told.targets).round(3).to_string())
    print(f"\nranks of mixtures that were not seen, {told.repeats} random subsets:")
    print(table(benchmark.runs, told.budgets, told.repeats).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
