"""Stage 3 under a launcher: `accelerate launch [flags] -m regmix_hf.proxies RECIPE [key.path=value ...]`.

Every rank trains one proxy at a time. Ranks claim runs one by one and share nothing else: no rank
ever joins another's training, and what one of them has done stays done whatever becomes of the others. A rank
on whose device no worker starts any more ends, and the others do its part; the launch fails with the last.
One that is killed itself ends the launch, by a rule of the launcher; with `--max_restarts 3` all ranks begin
again. Where the recipe says `hub.push_to_hub`, one rank at a time publishes what all of them have done.
Machines that share the folder are launched independently, one more or one fewer at any time.
Without a launcher this is `regmix proxies`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import typer

from regmix_hf.cli.app import run
from regmix_hf.cli.arguments import Overrides, RecipePath, command, open_study
from regmix_hf.cli.console import Console, Format

#: What a rank says that the launcher ends, because of another one, or that the user does.
STOPPED = (
    "Stopped. What is done is kept: the same command goes on from there. A launch survives the death of a "
    "rank with `accelerate launch --max_restarts 3 ...`."
)
launched = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@launched.command()
def train_proxies(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Train one small model per mixture, one at a time per rank."""
    from regmix_hf import pipeline
    from regmix_hf.jobs.devices import Rank
    from regmix_hf.jobs.pool import NoWorkerError, Pool
    from regmix_hf.jobs.ranks import do_others_go_on, end_with_launcher
    from regmix_hf.jobs.turns import beside_others_in
    from regmix_hf.stages import proxies
    from regmix_hf.training.device import uses_cpu

    study, console = open_study(recipe, overrides), Console()
    rank = Rank.of_environment(os.environ)
    if rank is not None:
        end_with_launcher()
        check_one_machine(os.environ, recipe)
    shown = console if rank is None or rank.index == 0 else Console(Format.QUIET)
    pipeline.begin(study, "proxies")
    try:
        with (
            beside_others_in(study.root, "proxies", shown),
            pipeline.publishing(study, "proxies", console),
        ):
            use_cpu = uses_cpu(study.recipe.proxy.training_args)
            stays = study.recipe.executor.wait
            place = None if rank is None else Pool([rank.slot(use_cpu=use_cpu)], study.proxies, stays)
            proxies.run(study, shown, place)
    except NoWorkerError as error:
        if rank is None or not do_others_go_on():
            raise
        console.note(f"rank {rank.index} ends, and the others go on: {error}")
        return
    is_left = pipeline.is_left_to_others(study, "proxies")
    shown.next(command("status" if is_left else "fit", recipe, overrides))


def check_one_machine(environment: Mapping[str, str], recipe: Path) -> None:
    """Refuse a launch over several machines: it would wait for all of them, and end when one of them does.

    Raises:
        TrainingError: The launcher was told `--num_machines` above 1.
    """
    from regmix_hf.errors import TrainingError

    machines = int(environment.get("GROUP_WORLD_SIZE", "1"))
    if machines > 1:
        ranks = environment.get("LOCAL_WORLD_SIZE", "1")
        raise TrainingError(
            f"proxies need no launch over {machines} machines: none waits for another.",
            "start each machine by itself, on a shared folder: "
            f"accelerate launch --num_machines 1 --num_processes {ranks} -m regmix_hf.proxies {recipe}",
        )


if __name__ == "__main__":
    raise SystemExit(run(launched, STOPPED))
