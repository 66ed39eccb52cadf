"""The Typer application: which verbs there are, and what becomes of an exception."""

from __future__ import annotations

import errno
import os
import sys

import typer

from regmix_hf.cli import choose, env, export, fit, init, keys, pull, push, report, stages, status, validate
from regmix_hf.cli import run as run_verb
from regmix_hf.errors import RegmixError

app = typer.Typer(
    name="regmix",
    help="Find the data mixture a language model should be pre-trained on (RegMix).",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich's costs more than all the rest of `regmix --help`
    pretty_exceptions_enable=False,
)
run_verb.register(app)
init.register(app)
stages.register(app, "prepare", "sample", "proxies")
fit.register(app)
choose.register(app)
stages.register(app, "train", "evaluate")
report.register(app)
export.register(app)
status.register(app)
validate.register(app)
keys.register(app)
push.register(app)
pull.register(app)
env.register(app)


#: Exit code of a command that the user stopped.
_INTERRUPTED = 130


def run(application: typer.Typer = app) -> int:
    """Run one command; return its exit code."""
    try:
        application()
    except SystemExit as exit_:
        if exit_.code == _INTERRUPTED:  # Typer's answer to Ctrl-C
            sys.stderr.write("\nStopped. What is done is kept: the same command goes on from there.\n")
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("REGMIX_DEBUG") == "1":
            raise
        sys.stderr.write(f"regmix: {explain(error)}\n")
        if isinstance(error, RegmixError):
            return error.exit_code
        return 2 if isinstance(error, OSError) else 1
    return 0


def explain(error: BaseException) -> str:
    """Put an exception into words for the user."""
    if isinstance(error, RegmixError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = f" at {error.filename}" if error.filename else ""
        return (
            f"the disk is full{place}. What is done is kept.\n"
            "  free some space and run the same command again; `regmix run RECIPE --dry-run` says how much"
        )
    if isinstance(error, OSError):
        return f"{error}"
    return (
        f"an error nobody foresaw, {type(error).__name__}: {error}\n"
        "  what is done is kept; REGMIX_DEBUG=1 shows where it happened, which belongs into a bug report"
    )
