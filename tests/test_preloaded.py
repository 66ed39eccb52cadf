"""A preloaded process is one like any other; a test that says nothing of processes starts none."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.preloaded import Mode, family, starting

TELL = """
import huggingface_hub.constants, json, os, sys
me = {
    "parent": os.getppid(), "id": os.getpid(), "group": os.getpgid(0), "session": os.getsid(0),
    "argv": sys.argv, "first": sys.path[0], "cwd": os.getcwd(), "main": __name__, "stdin": sys.stdin.read(),
    "environment": dict(os.environ), "endpoint": huggingface_hub.constants.ENDPOINT,
}
print(json.dumps(me))
print("to stderr", file=sys.stderr)
"""


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


@pytest.mark.processes
@pytest.mark.parametrize("mode", [Mode.PRELOADED, Mode.COLD])
def test_it_has_the_place_files_and_words_it_was_given(mode, tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "ONLY_HERE": "1"}
    options = {"cwd": tmp_path, "env": environment, "input": "said", "start_new_session": True}
    with starting(mode):
        ran = [
            (python(*words, "a b", **options), first, name)
            for words, first, name in (
                (["-c", TELL], "", "-c"),
                (["-u", "-m", "tell"], str(tmp_path), str(tmp_path / "tell.py")),
                (["tell.py"], str(tmp_path), "tell.py"),
            )
        ]
    for done, first, name in ran:
        assert (done.returncode, done.stderr) == (0, "to stderr\n")
        told = json.loads(done.stdout)
        assert told["parent"] == os.getpid()
        assert told["id"] == told["group"] == told["session"]
        assert (told["argv"], told["first"], told["main"]) == ([name, "a b"], first, "__main__")
        assert (told["cwd"], told["stdin"]) == (str(tmp_path), "said")
        assert told["environment"].items() >= environment.items()
        assert told["endpoint"] == "http://127.0.0.1:9"


@pytest.mark.processes
def test_it_has_the_heavy_imports_done():
    code = "import sys; print('torch' in sys.modules, 'regmix_hf.pipeline' in sys.modules)"
    assert python("-c", code).stdout == "True True\n"
    with starting(Mode.COLD):
        assert python("-c", code).stdout == "False False\n"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "ended", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import atexit, sys; atexit.register(print, 'bye', file=sys.stderr)", 0, "bye"),
    ],
)
def test_it_ends_as_a_new_interpreter_does(code, ended, said):
    done = python("-c", code)
    # An interrupted interpreter signals itself and, where the kernel is slow to deliver, says 130 first.
    code = -signal.SIGINT if done.returncode == 128 + signal.SIGINT else done.returncode
    assert (code, done.stderr.strip().split("\n")[-1]) == (ended, said)


@pytest.mark.processes
def test_what_it_starts_is_its_child_and_what_it_was_given_is_closed_when_it_dies(within, gone):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(7, flush=True); input()'])"
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=reader, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "7\n"
        (child,) = family(process.pid)
        assert child.ppid() == process.pid
        everybody = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert child.is_running()
        child.kill()
        within(lambda: gone(everybody))
        assert process.stdout.read() == ""
    os.close(reader)
    os.close(writer)


@pytest.mark.processes
def test_random_numbers_differ_from_process_to_process():
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    one, other = (python("-c", code).stdout.split() for _ in range(2))
    assert not set(one) & set(other)


def test_one_that_says_nothing_of_processes_is_quick_and_can_start_none(request):
    assert request.node.get_closest_marker("quick")
    with pytest.raises(AssertionError, match=r"pytest\.mark\.processes"):
        python("-c", "pass")
