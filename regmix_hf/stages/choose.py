"""Stage 5, `choose`: the mixture with the best predicted target that the final run's data allows.

Where the study can train, a choice is tried: rows of the origin `confirm` are added to the table of mixtures,
so that `proxies`, `fit` and `choose` have something to do again. When it is done again, what was promised
stands beside what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regmix_hf.files import hash_value, read_parquet, read_yaml, write_parquet
from regmix_hf.mixtures import around_prior, sampling_constraints
from regmix_hf.mixtures.final import final_constraints
from regmix_hf.mixtures.repetition import longest_reading, stamp_matching
from regmix_hf.mixtures.table import CONFIRM, append, empty, over, read_mixtures
from regmix_hf.progress import Progress
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.outcome import decisive
from regmix_hf.recipe.target import AskedTarget
from regmix_hf.recipe.training import Proxy, Training
from regmix_hf.runs.experts import read_experts
from regmix_hf.runs.runs import Runs
from regmix_hf.stages import sample
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.rounds import Round, Trial, last_measured, rounds_in
from regmix_hf.tables import RESULTS

if TYPE_CHECKING:
    from regmix_hf.choice import ChoiceProblem, ChosenMixture, FittedRuns
    from regmix_hf.regression.target import Target


def _stamp(recipe: Recipe) -> dict[str, str]:
    """What of further sizes counts: the law over them is asked for the size of final models."""
    final = {"train.model": hash_value(decisive(recipe, "train.model"))} if recipe.proxies[1:] else {}
    return {**sample.stamp_swarm(recipe), **final}


STAGE = Stage(
    verb="choose",
    folder=names.MIXTURE,
    keys=(
        *("seed", "domains", "sampling", "regression.target", "regression.estimator", "choice"),
        *("proxy.num_train_tokens", "train.num_train_tokens"),
    ),
    inputs=(
        f"{names.CORPUS}/{names.CORPUS_FACTS}",
        f"{names.MIXTURES}/{names.MIXTURES_TABLE}",
        f"{names.PROXIES}/{names.RESULTS}",
        f"{names.REGRESSION}/{names.FIT_SUMMARY}",
    ),
    outputs=(names.CHOSEN_MIXTURE, names.CHOSEN_TABLE),
    outside=_stamp,
)


def run(study: Study, progress: Progress) -> None:
    """Choose with the regressor that `fit` selected, write the mixture and what it promises, and try it.

    Killed at any moment it does the same again: a round counts once its rows are in the table.

    Raises:
        StudyError: The corpus or the fit is not there yet.
        MixtureError: No mixture meets the constraints; the message names those that clash.
    """
    from regmix_hf.choice import write_chosen
    from regmix_hf.regression.final_run import as_final_runs_read

    recipe = study.recipe
    tokens = CorpusFacts.load(study.corpus).available_tokens(recipe)
    fitted = _fitted(study)
    problem = _problem(study, _at(study, fitted, recipe.train), tokens)
    reading = as_final_runs_read(problem.regressor, recipe.train.num_train_tokens, tokens)
    final = replace(problem, regressor=reading)
    chosen = final.solve(progress)
    rounds, longer = measured_rounds(study, problem.target), None
    if (last := last_measured(rounds, chosen.target)) is not None and last.chosen is not None:
        progress.note(f"what was chosen last was tried: {last.chosen}")
    if _is_to_be_tried(study, chosen, rounds) and _speaks_of_tries(study, fitted, progress):
        table = over(read_mixtures(study.mixtures), list(tokens))
        tried_by = _problem(study, _at(study, fitted, _tried_with(recipe)), tokens)
        longer, further = _try(tried_by, chosen, table, study)
        rounds = [*rounds, further]
    epochs = {
        name: weight * recipe.train.num_train_tokens / tokens[name] for name, weight in chosen.weights.items()
    }
    write_chosen(chosen, study.mixture.parent, epochs=epochs, rounds=rounds)
    if problem.regressor.knows_repetition:
        progress.note("predictions count what repeating costs, as often as a final run reads each domain")
    if recipe.choice.kl_strength == "auto" and problem.regressor.num_runs_:
        progress.note(f"choice.kl_strength: auto is {chosen.kl_strength:.4g} per nat of divergence")
    for note in chosen.notes:
        progress.note(note)
    if longer is not None:
        write_parquet(study.mixtures, longer)
        study.add_to(sample.STAGE)
        progress.note(
            f"to try the choice, `regmix proxies` trains {recipe.choice.num_confirm} more, with other seeds; "
            "then it is fitted and chosen again"
        )
    study.finish(STAGE, {"method": chosen.method, "predicted": chosen.predicted.loss})


def asked_for(study: Study) -> list[str]:
    """Mixtures that a choice is to be tried with and that no proxy has been trained on yet."""
    if study.recipe.runs is not None or not study.mixtures.exists():
        return []
    table, ended = read_mixtures(study.mixtures), set(_results(study)["mixture_id"])
    return [str(name) for name in table.loc[table["origin"] == CONFIRM, "mixture_id"] if name not in ended]


def most_to_try(study: Study) -> int:
    """The most proxies that `choose` may yet ask for."""
    from regmix_hf.regression.asked_target import target_of

    recipe = study.recipe
    if not study.mixture.exists():  # then no round is recorded, for whatever target
        rounds = _rounds_left(study, "", ())
    else:
        target = target_of(study)
        rounds = _rounds_left(study, str(target), measured_rounds(study, target))
    return rounds * recipe.choice.num_confirm * _tried_with(recipe).num_seeds


def _is_to_be_tried(study: Study, chosen: ChosenMixture, rounds: Sequence[Round]) -> bool:
    """Whether another round follows.

    Not where the prior was kept, one is yet to be trained, or the last held and what is chosen now is what it
    tried, or as near to it as the mixtures that were tried beside it.
    """
    from regmix_hf.choice.confirm import NEAR

    if chosen.method == "prior" or asked_for(study):
        return False
    last = last_measured(rounds, chosen.target)
    holds = last is not None and last.chosen is not None and last.chosen.holds
    is_tried = holds and last is not None and last.differs_by(chosen.weights) <= NEAR
    return not is_tried and _rounds_left(study, chosen.target, rounds) > 0


def _rounds_left(study: Study, target: str, rounds: Sequence[Round]) -> int:
    """How many rounds may come yet.

    Those for another target or other proxies do not count, those without a record do.
    """
    recipe = study.recipe
    if recipe.choice.num_confirm == 0 or recipe.runs is not None or study.is_pulled:
        return 0
    table = read_mixtures(study.mixtures) if study.mixtures.exists() else empty(())
    without = set(table.loc[table["origin"] == CONFIRM, "round"]) - {one.number for one in rounds}
    used = len(without) + sum(one.is_of(target, proxies_of(study)) for one in rounds)
    return max(0, recipe.choice.num_rounds - used)


def measured_rounds(study: Study, target: Target) -> list[Round]:
    """The rounds of the choices so far whose rows are in the table, with what has been measured by now."""
    if not all(file.exists() for file in (study.mixture, study.mixtures, study.proxies / names.RESULTS)):
        return []
    record, there = read_yaml(study.mixture), set(read_mixtures(study.mixtures)["mixture_id"])
    recorded = rounds_in(record, study.mixture) if isinstance(record, dict) else []
    results = _results(study)
    asked = AskedTarget.of(study.recipe.regression.target)
    experts, given = read_experts(study.proxies / names.EXPERTS), asked.directions
    runs = Runs.from_results(results, str(study.proxies), asked=asked.names, given=given, experts=experts)
    losses = runs.losses.reindex(columns=list(target.names))
    mixture = results.drop_duplicates("run_id").set_index("run_id")["mixture_id"].reindex(losses.index)
    now = proxies_of(study)

    def measured(one: Round) -> Round:
        if one.target != str(target):
            return one
        if not one.is_of(one.target, now):
            return one.measured_as({})  # what is measured now is of other proxies than it promised for
        # In standard deviations a value means something only by those that were promised in.
        values = replace(target, scales=one.scales or target.scales).combine(losses).groupby(mixture)
        return one.measured_as({str(name): tuple(found.dropna()) for name, found in values})

    return [measured(one) for one in recorded if there.issuperset(trial.mixture_id for trial in one.trials)]


def proxies_of(study: Study) -> str | None:
    """Hash of how the study's proxies are trained and on what; `None` where its corpus is not here."""
    from regmix_hf.training.spec import planned_spec

    recipe, facts = study.recipe, CorpusFacts.find(study.corpus)
    if facts is None:
        return None
    trained = planned_spec(recipe, facts, _tried_with(recipe)).run_id
    further = decisive(recipe, "proxies") or [decisive(recipe, "proxy")]
    model = further[-1]["model"]  # also where it starts from
    return hash_value([trained, model, stamp_matching(recipe), facts.fingerprint])[:16]


def _results(study: Study) -> pd.DataFrame:
    file = study.proxies / names.RESULTS
    return read_parquet(file, RESULTS) if file.exists() else pd.DataFrame(columns=[*RESULTS.texts])


def _tried_with(recipe: Recipe) -> Proxy:
    """Proxies that choices are tried with: of the last size and length, which is nearest to final models."""
    return list(recipe.rungs.values())[-1]


def _fitted(study: Study) -> FittedRuns:
    from regmix_hf.choice import FittedRuns

    asked = study.recipe.regression
    study.require(study.regression / names.FIT_SUMMARY, "fit")
    return FittedRuns.load(study.regression, estimator=asked.estimator, target=asked.target)


def _at(study: Study, fitted: FittedRuns, training: Training) -> FittedRuns:
    """The fit as it speaks of such runs, where it tells of other sizes than those that were trained."""
    if len(study.recipe.rungs) == 1 or not fitted.regressor.model.takes_sizes:
        return fitted
    from regmix_hf.training.planned import planned_size

    return fitted.at(*planned_size(study.recipe, training, CorpusFacts.load(study.corpus)))


def _speaks_of_tries(study: Study, fitted: FittedRuns, progress: Progress) -> bool:
    """Whether the fit can promise something of the proxies that a choice is tried with."""
    from regmix_hf.training.planned import planned_size

    if len(study.recipe.rungs) == 1 or fitted.regressor.model.takes_sizes or fitted.runs.sizes is None:
        return True
    tried = planned_size(study.recipe, _tried_with(study.recipe), CorpusFacts.load(study.corpus))
    judged = tuple(fitted.runs.sizes.iloc[0]) if len(fitted.runs) else tried
    if judged != tried:
        progress.note(
            f"not tried: choices are tried with the last of `proxies`, and the fit speaks of {fitted.scale}"
        )
    return judged == tried


def _problem(study: Study, fitted: FittedRuns, tokens: Mapping[str, int]) -> ChoiceProblem:
    recipe = study.recipe
    constraints = final_constraints(recipe, tokens)
    drawn_within = sampling_constraints(recipe.sampling, tokens, num_train_tokens=longest_reading(recipe))
    return fitted.problem(
        around_prior(CorpusFacts.load(study.corpus).prior(recipe), recipe.sampling, drawn_within),
        constraints,
        choice=recipe.choice,
        random_state=recipe.seed,
    )


def _try(
    problem: ChoiceProblem, chosen: ChosenMixture, table: pd.DataFrame, study: Study
) -> tuple[pd.DataFrame, Round]:
    """Add the rows of one round to the table, and say what is promised of the proxies that try them.

    Promised is as these proxies repeat text.
    """
    from regmix_hf.choice.confirm import mixtures_to_try
    from regmix_hf.regression.assessment import of_scale

    number, count = int(table["round"].max()) + 1, study.recipe.choice.num_confirm
    kinds, weights = zip(*mixtures_to_try(problem, chosen, count, number), strict=True)
    rungs = [len(study.recipe.rungs) - 1] * count
    longer = append(table, np.stack(weights), ["fit"] * count, [CONFIRM] * count, rungs)
    promised = [problem.predict(row) for row in weights]
    trials = tuple(
        Trial(mixture_id=name, kind=kind, promised=one.loss, lower=one.lower, upper=one.upper)
        for name, kind, one in zip(longer["mixture_id"][len(table) :], kinds, promised, strict=True)
    )
    return longer, Round(
        number=number,
        target=chosen.target,
        unit=chosen.quantity.unit,
        estimator=chosen.estimator,
        weights=dict(chosen.weights),
        trials=trials,
        proxies=proxies_of(study),
        speaks_of=None if problem.size is None else of_scale(problem.scale),
        scales=dict(problem.target.scales),
    )
