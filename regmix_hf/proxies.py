"""Stage 3 under a launcher: `accelerate launch [flags] -m regmix_hf.proxies RECIPE [key.path=value ...]`.

Every rank trains one proxy at a time. Ranks claim runs one by one and share nothing else: no rank
ever joins another's training, and what one of them has done stays done whatever becomes of the others. Where
the recipe says `hub.push_to_hub`, one rank at a time publishes what all of them have done.
Without a launcher this is `regmix proxies`.
"""

from __future__ import annotations

import os

import typer

from regmix_hf.cli.app import run
from regmix_hf.cli.arguments import Overrides, RecipePath, open_study
from regmix_hf.cli.console import Console
from regmix_hf.progress import Silent

launched = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@launched.command()
def train_proxies(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Train one small model per mixture, one at a time per rank."""
    from regmix_hf import pipeline
    from regmix_hf.jobs.devices import Rank
    from regmix_hf.stages import proxies

    study, console = open_study(recipe, overrides), Console()
    study.open()
    rank = Rank.of_environment(os.environ)
    with pipeline.publishing(study, "proxies", console):
        if rank is None:
            proxies.run(study, console)
        else:
            slot = rank.slot(use_cpu=proxies.uses_cpu(study))
            proxies.run_in(study, [slot], console if rank.index == 0 else Silent())


if __name__ == "__main__":
    raise SystemExit(run(launched))
