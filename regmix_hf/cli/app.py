"""The Typer application: which verbs there are, and what becomes of an exception."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from regmix_hf.cli import choose, env, export, fit, init, keys, pull, push, report, stages, status, validate
from regmix_hf.cli import run as run_verb
from regmix_hf.cli.console import Format
from regmix_hf.errors import RegmixError
from regmix_hf.version import VERSION

app = typer.Typer(
    name="regmix",
    help="Find the data mixture a language model should be pre-trained on (RegMix).",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # plain help: rich's costs more than all the rest of `regmix --help`
    pretty_exceptions_enable=False,
)
app.command()(run_verb.run)
app.command()(init.init)
stages.register(app, "prepare", "sample", "proxies")
app.command()(fit.fit)
app.command()(choose.choose)
stages.register(app, "train", "evaluate")
app.command()(report.report)
app.command()(export.export)
app.command()(status.status)
app.command()(validate.validate)
app.command()(keys.keys)
app.command()(push.push)
app.command()(pull.pull)
app.command()(env.env)


#: Exit codes of a command that the user stopped, or the system.
_INTERRUPTED, _TERMINATED = 130, 143
_STOPPED = "Stopped. What is done is kept: the same command goes on from there."


class _Terminated(BaseException):
    """The system asks to end: a batch queue, say, or a machine that shuts down."""


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"regmix_hf {VERSION}")
        raise typer.Exit


@app.callback()
def _of_all_verbs(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors; also behind a verb.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if quiet:
        verbs: Any = context.command
        context.default_map = {verb: {"format": Format.QUIET.value} for verb in verbs.commands}


def run(application: typer.Typer = app, stopped: str = _STOPPED) -> int:
    """Run one command; return its exit code.

    Args:
        application: That has it.
        stopped: What to say when the user, or the system, ends it.
    """
    quiet = [word for word in sys.argv[1:] if word in ("-q", "--quiet")]
    words = [word for word in sys.argv[1:] if word not in quiet]
    try:
        with _ending_in_words():
            # Where errors are asked for as JSON, Typer hands them on, and returns what a verb ended with.
            ended = application([*quiet, *words], standalone_mode=not _asks_for_json(words))
            if isinstance(ended, int):
                raise SystemExit(ended)
    except SystemExit as exit_:
        if exit_.code == _INTERRUPTED:  # Typer's answer to Ctrl-C
            sys.stderr.write(f"\n{stopped}\n")
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except _Terminated:
        sys.stderr.write(f"\n{stopped}\n")
        return _TERMINATED
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("REGMIX_DEBUG") == "1":
            raise
        code = 2 if isinstance(error, OSError) else 1
        if isinstance(error, RegmixError | typer.TyperException):
            code = error.exit_code
        message, _, hint = explain(error).partition("\n  ")
        if _asks_for_json(words):
            told = {
                "error": type(error).__name__,
                "message": message,
                "hint": hint or None,
                "exit_code": code,
            }
            sys.stderr.write(json.dumps(told) + "\n")
        else:
            sys.stderr.write(f"regmix: {explain(error)}\n")
        return code
    return 0


def _asks_for_json(words: list[str]) -> bool:
    pairs = pairwise([*words, ""])
    return any(word == "--format=json" or (word, after) == ("--format", "json") for word, after in pairs)


@contextmanager
def _ending_in_words() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, with its workers; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(error: BaseException) -> str:
    """Put an exception into words for the user."""
    if isinstance(error, RegmixError):
        return str(error)
    if isinstance(error, typer.TyperException):
        return f"{error.format_message()}\n  `regmix --help`, or that of the verb, says what can be written"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = f" at {error.filename}" if error.filename else ""
        return (
            f"the disk is full{place}. What is done is kept.\n"
            "  free some space and run the same command again; `regmix run RECIPE --dry-run` says how much"
        )
    if isinstance(error, OSError) and _cannot_write(error):
        return (
            f"{error}: this is a place that cannot be written to.\n"
            "  write output_dir=FOLDER behind the verb to have the results elsewhere"
        )
    if isinstance(error, OSError):
        return f"{error}"
    return (
        f"an error nobody foresaw, {type(error).__name__}: {error}\n"
        "  what is done is kept; REGMIX_DEBUG=1 shows where it happened, which belongs into a bug report"
    )


def _cannot_write(error: OSError) -> bool:
    """Whether a folder is what stood in the way: reading is refused for the file's own sake."""
    if error.errno == errno.EROFS:
        return True
    if error.errno != errno.EACCES or not error.filename:
        return False
    place = next(folder for folder in Path(error.filename).absolute().parents if folder.exists())
    return not os.access(place, os.W_OK)
