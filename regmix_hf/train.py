"""Stage 6 under a launcher: `accelerate launch [flags] -m regmix_hf.train RECIPE [--mixture NAME] [...]`.

All ranks train one model after the other, together. Several launches, on one machine or on several that share
the study's folder, share the runs out among them. On a CPU a rank has one thread: more ranks use more cores.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Annotated

import typer

from regmix_hf.cli.app import run
from regmix_hf.cli.arguments import Overrides, RecipePath, open_study
from regmix_hf.cli.console import Console, Format

launched = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Mixtures = Annotated[
    list[str] | None, typer.Option("--mixture", help="Train only this one of train.mixtures.")
]


@launched.command()
def train_models(recipe: RecipePath, overrides: Overrides = None, mixture: Mixtures = None) -> None:
    """Train the final models that have no result yet, each one over all ranks of this launch."""
    from regmix_hf import pipeline
    from regmix_hf.errors import RecipeError, did_you_mean
    from regmix_hf.jobs.devices import ONE_THREAD, cuda_devices
    from regmix_hf.jobs.finals import FinalWork
    from regmix_hf.jobs.launch import ENDS_WITH_STDIN
    from regmix_hf.jobs.ranks import Ranks, do_together, end_with_launcher, end_with_stdin
    from regmix_hf.jobs.results import result_of
    from regmix_hf.jobs.turns import beside_others_in
    from regmix_hf.stages import train
    from regmix_hf.training.device import uses_cpu

    if ENDS_WITH_STDIN in os.environ:
        end_with_stdin()
    if "WORLD_SIZE" in os.environ:
        end_with_launcher()
    study = open_study(recipe, overrides)
    for name in mixture or ():
        if name not in study.final_mixtures:
            hint = did_you_mean(name, study.final_mixtures)
            raise RecipeError(f"--mixture {name!r} is not in train.mixtures; {hint}")
    pipeline.begin(study, "train")
    arguments = study.recipe.train.training_args
    use_cpu = uses_cpu(arguments)
    if use_cpu or not cuda_devices():
        os.environ.update(ONE_THREAD)
    ranks = Ranks(use_cpu=use_cpu, timeout_s=float(arguments.get("ddp_timeout", 1800)))
    console = Console() if ranks.is_first else Console(Format.QUIET)
    # `regmix train`, which may have launched this, is in the folder already; the first rank stands for all.
    is_in = ENDS_WITH_STDIN in os.environ or not ranks.is_first
    with nullcontext() if is_in else beside_others_in(study.root, "train", console):
        stays = study.recipe.executor.wait
        do_together(train.tasks_of(study, mixture or ()), FinalWork(study.corpus, recipe), ranks, stays=stays)
        if ranks.is_first and all(map(result_of, train.tasks_of(study))):
            train.conclude(study, console)
    ranks.part()


if __name__ == "__main__":
    raise SystemExit(run(launched))
