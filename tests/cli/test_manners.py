"""What is expected of every command line: its version, `-h`, `-q`, a last word when it is ended."""

import errno
import os
import signal
import sys

import pytest
import typer

from regmix_hf.cli import app
from regmix_hf.version import VERSION


def applying(do) -> typer.Typer:
    application = typer.Typer()
    application.command()(do)
    return application


def test_version(regmix):
    assert (regmix("--version").out, regmix("--version").code) == (f"regmix_hf {VERSION}\n", 0)


@pytest.mark.parametrize("words", [["-h"], ["keys", "-h"], ["validate", "-h"]])
def test_h_is_help(regmix, words):
    outcome = regmix(*words)
    assert outcome.code == 0
    assert "Usage:" in outcome.out


def test_completion_is_offered(regmix):
    assert "--install-completion" in regmix("--help").out


@pytest.mark.parametrize(
    "words", [["-q", "validate", "RECIPE"], ["validate", "RECIPE", "-q"], ["keys", "sampling", "--quiet"]]
)
def test_q_prints_nothing_but_errors_wherever_it_stands(regmix, recipe, words):
    outcome = regmix(*(recipe if word == "RECIPE" else word for word in words))
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert "no recipe at" in regmix("-q", "validate", "nowhere").err


def test_the_system_ending_a_command_lets_it_clean_up_and_say_how_to_go_on(capsys, monkeypatch):
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)

    monkeypatch.setattr(sys, "argv", ["regmix"])
    before = signal.getsignal(signal.SIGTERM)
    assert app.run(applying(work)) == 143
    assert capsys.readouterr().err.endswith("What is done is kept: the same command goes on from there.\n")
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_names_output_dir(capsys, monkeypatch, tmp_path, number):
    def fail() -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "runs/a"))

    monkeypatch.setattr(sys, "argv", ["regmix"])
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)  # root may write anywhere
    assert app.run(applying(fail)) == 2
    assert "write output_dir=FOLDER" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_does_not(capsys, monkeypatch, tmp_path):
    def fail() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "text.jsonl"))

    monkeypatch.setattr(sys, "argv", ["regmix"])
    assert app.run(applying(fail)) == 2
    assert "output_dir" not in capsys.readouterr().err
