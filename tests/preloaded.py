"""Python processes that begin with the heavy imports done.

A new interpreter takes four to ten seconds of a processor to import torch, transformers and what belongs to
them, and most tests of processes ask nothing about that. With `start_as(Mode.PRELOADED)`, whatever this
process starts as `[sys.executable, ...]`, through `subprocess` or `multiprocessing`, is forked instead from a
parent that has imported all of it, has one thread and has run nothing. Product code knows nothing of this.

What is started so is a process like any other: a child of whoever asked for it (the parent forks twice, and
the orphan is given to the asker, a "subreaper"), with its own id, signals, exit code, session, environment,
files and working directory. It has such a parent itself, so the workers, launchers and ranks that it starts
begin the same way. These differ from a new interpreter, and a test about them starts a cold process:

- imports are done (`sys.modules`), and with them what they read of the environment; `huggingface_hub`,
  `datasets` and `evaluate` read theirs again, and `regmix_hf` reads none when it is imported;
- all processes forked from one parent hash strings alike;
- it ends once its threads have, what was registered to run at its end has and its streams are flushed:
  modules are not taken apart object by object, which took ten times the start;
- each process has one more child, its parent for others, called `preloaded` (`family` leaves it out), and
  `/proc` shows the command line of the first parent.

Commands with other flags of the interpreter than `-u` and `-B`, with a user, or with `preexec_fn` are started
as ever.
"""

from __future__ import annotations

import _posixsubprocess
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import psutil

#: Imported by the parent, in this order: what a study's stages take from elsewhere, and the stages.
MODULES = (
    *("numpy", "pandas", "pyarrow.dataset", "pyarrow.parquet", "scipy.optimize", "scipy.stats"),
    *("sklearn.gaussian_process", "sklearn.linear_model", "sklearn.model_selection", "lightgbm", "joblib"),
    *("torch", "torch.distributed.run", "torch._dynamo", "huggingface_hub", "datasets", "accelerate"),
    *("transformers.trainer", "transformers.models.auto.modeling_auto", "tokenizers", "evaluate"),
    *("transformers.models.llama.modeling_llama", "transformers.models.gpt_neox.modeling_gpt_neox"),
    *("lm_eval.evaluator", "lm_eval.tasks", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("typer", "rich.progress", "rich.table", "ruamel.yaml", "pydantic", "jinja2", "psutil", "tenacity"),
    *("fsspec.implementations.http", "aiohttp"),
    *("regmix_hf.cli.app", "regmix_hf.plan", "regmix_hf.sharing", "regmix_hf.stages.prepare"),
    *("regmix_hf.stages.proxies", "regmix_hf.stages.train", "regmix_hf.stages.evaluate"),
    *("regmix_hf.training.run", "regmix_hf.preflight"),
)
#: Modules that keep what the environment said when they were imported, and where it is said.
READ_AGAIN = ("huggingface_hub.constants", "datasets.config", "evaluate.config")
READ_AGAIN_PREFIXES = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_OFFLINE")
#: The allocator's own thread, which it starts anew in forked processes. Any other forbids to fork.
HARMLESS_THREADS = {"jemalloc_bg_thd"}
#: Files of a started process have lower numbers, while it is being made; the kernel's usual limit is 1024.
FIRST_OWN_FILE = 512
#: What parents are called in the list of processes, where others are `python`.
NAME = "preloaded"
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36


@dataclass(frozen=True)
class Start:
    """A process to be: `argv` without the interpreter and its flags, and the numbers its files get."""

    argv: list[str]
    cwd: str
    environment: dict[str, str]
    is_unbuffered: bool
    is_new_session: bool
    process_group: int
    files: list[int]


class Parent:
    """The other side: a process that forks when it is asked to, and ends with the one that may ask."""

    def __init__(self, control: socket.socket):
        self._control = control
        self._lock = threading.Lock()

    def start(self, start: Start, files: list[int]) -> int:
        """Have a child of this process started, with `files` under the numbers of `start.files`; its id."""
        content = json.dumps(asdict(start)).encode()
        with self._lock:
            socket.send_fds(self._control, [struct.pack("q", len(content))], files)
            self._control.sendall(content)
            return int(struct.unpack("q", _exactly(self._control, 8))[0])

    def close(self) -> None:
        self._control.close()


class Mode(Enum):
    """How this process starts Python processes."""

    COLD = "new interpreters"
    PRELOADED = "forked from a parent that has the imports done"
    NOT = "not at all"


class _Starter:
    """How this process starts others, and the parent that it has them forked from."""

    def __init__(self) -> None:
        self.mode = Mode.COLD
        self.parent: Parent | None = None
        self.environment = dict(os.environ)

    def ready(self) -> Parent:
        """Return the parent; the first of a family is a new interpreter."""
        if self.parent is None:
            _become_subreaper()
            ours, theirs = socket.socketpair()
            with theirs, starting(Mode.COLD):
                process = subprocess.Popen(
                    [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            self.parent = Parent(ours)
            atexit.register(_end, self.parent, process)
        return self.parent

    def forget(self) -> None:
        """In a process that was forked by other means: the parent starts children of another one."""
        self.mode, self.parent = Mode.COLD, None


_starter = _Starter()
os.register_at_fork(after_in_child=_starter.forget)
_fork_exec = _posixsubprocess.fork_exec


def start_as(mode: Mode) -> None:
    """Start Python processes so from now on."""
    _posixsubprocess.fork_exec = subprocess._fork_exec = _start
    _starter.mode = mode


@contextlib.contextmanager
def starting(mode: Mode) -> Iterator[None]:
    """Start Python processes so meanwhile; what is started cold starts all its own cold."""
    before = _starter.mode
    start_as(mode)
    try:
        yield
    finally:
        start_as(before)


def family(pid: int) -> list[psutil.Process]:
    """Return what a process has started, and what that has, without the parents of preloaded ones."""
    return [child for child in psutil.Process(pid).children(recursive=True) if child.name() != NAME]


def _start(*arguments: Any) -> int:
    """Stand in for `_posixsubprocess.fork_exec`, whose arguments have these places in Python 3.11 to 3.13."""
    args, executables, close_fds, keep, cwd, env = arguments[:6]
    stdin, _, _, stdout, _, stderr, _, report = arguments[6:14]
    new_session, group, gid, gids, uid, umask, before_exec = arguments[15:22]
    if _starter.mode is Mode.COLD or os.fsdecode(executables[0]) != sys.executable:
        return int(_fork_exec(*arguments))
    if _starter.mode is Mode.NOT:
        raise AssertionError(
            "this test starts a Python process: mark it, or its module, with `pytest.mark.processes`, "
            "or with `pytest.mark.cold_processes` where a new interpreter matters"
        )
    argv = _program([os.fsdecode(word) for word in args[1:]])
    is_plain = close_fds and (gid, gids, uid, umask, before_exec) == (None, None, None, -1, None)
    kept = [file for file in keep if file != report]
    if argv is None or not is_plain or max(kept, default=0) >= FIRST_OWN_FILE:
        return int(_fork_exec(*arguments))
    standard = [given if given >= 0 else own for own, given in enumerate((stdin, stdout, stderr))]
    if env is not None:
        env = dict(os.fsdecode(entry).split("=", 1) for entry in env)
    start = Start(
        argv=argv,
        cwd=os.path.realpath(os.fsdecode(cwd) if cwd is not None else "."),
        environment=dict(os.environ) if env is None else env,
        is_unbuffered="-u" in map(os.fsdecode, args[1 : len(args) - len(argv)]),
        is_new_session=new_session,
        process_group=group,
        files=[0, 1, 2, *kept],
    )
    return _starter.ready().start(start, [*standard, *kept])


def _program(words: list[str]) -> list[str] | None:
    """What follows the interpreter's flags; `None` if a running interpreter cannot take one of them."""
    while words and words[0] in ("-u", "-B"):
        words = words[1:]
    if not words or (words[0].startswith("-") and words[0] not in ("-c", "-m")):
        return None
    return words


# ---- the parent ----


def serve(control: socket.socket) -> Start:
    """Fork whenever a request comes; return in what was forked, and end with whoever may ask."""
    while True:
        received = _receive(control)
        if received is None:
            os._exit(0)
        start, files = received
        if not _fork_orphan(control):
            for file in files:
                os.close(file)
            continue
        control.close()
        _place_files(files, start.files)
        if start.is_new_session:
            os.setsid()
        if start.process_group >= 0:
            os.setpgid(0, start.process_group)
        _become_subreaper()
        ours, control = socket.socketpair()
        if os.fork():
            control.close()
            _starter.parent, _starter.mode = Parent(ours), Mode.PRELOADED
            return start
        ours.close()
        control = _hide(control)


def _receive(control: socket.socket) -> tuple[Start, list[int]] | None:
    size = struct.calcsize("q")
    header, files, _, _ = socket.recv_fds(control, size, 253)
    if not header:
        return None
    header += _exactly(control, size - len(header))
    return Start(**json.loads(_exactly(control, struct.unpack("q", header)[0]))), files


def _exactly(control: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = control.recv(size - len(content))
        if not more:
            raise EOFError("the other process is gone")
        content += more
    return content


def _fork_orphan(control: socket.socket) -> bool:
    """Fork twice and tell the asker the id of the second; true in that one, once the asker is its parent."""
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        between = os.getpid()
        orphan = os.fork()
        if orphan:
            os.write(writer, struct.pack("q", orphan))
            os._exit(0)
        os.close(reader)
        os.close(writer)
        while os.getppid() == between:
            os.sched_yield()
        return True
    os.close(writer)
    answer = os.read(reader, 8)
    os.close(reader)
    os.waitpid(between, 0)
    control.sendall(answer)
    return False


def _place_files(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give received files their numbers and close all others."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, FIRST_OWN_FILE) for file in files]
    os.closerange(0, FIRST_OWN_FILE)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
    os.closerange(FIRST_OWN_FILE, max(moved) + 1)


def _hide(control: socket.socket) -> socket.socket:
    """Leave the files of the process that this one was forked from; SIGINT is for its group, not for this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hidden = socket.socket(fileno=fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_FILE))
    control.detach()
    os.closerange(0, FIRST_OWN_FILE)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return hidden


def _become_subreaper() -> None:
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int | bytes) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def _end(parent: Parent, process: subprocess.Popen[bytes]) -> None:
    parent.close()
    process.wait()


def _import_all() -> None:
    for name in MODULES:
        importlib.import_module(name)
    threads = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    names = {(task / "comm").read_text().strip() for task in threads}
    if names - HARMLESS_THREADS:
        raise RuntimeError(f"imports started threads, which a fork would lose: {names}")
    gc.collect()
    gc.freeze()


# ---- what was forked ----


def run(start: Start) -> None:
    """Be the process that was asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _prctl(PR_SET_NAME, b"python")
    os.chdir(start.cwd)
    _take_environment(start.environment)
    sys.orig_argv = [sys.executable, *start.argv]
    if start.is_unbuffered:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)
    sys.modules["numpy"].random.seed()
    match start.argv:
        case ["-c", code, *words]:
            sys.argv, sys.path[:0] = ["-c", *words], [""]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(code, "<string>", "exec"), main.__dict__)
        case ["-m", name, *words]:
            sys.argv, sys.path[:0] = ["-m", *words], [start.cwd]
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        case [script, *words]:
            sys.argv, sys.path[:0] = [script, *words], [str(Path(script).resolve().parent)]
            runpy.run_path(script, run_name="__main__")


def _take_environment(environment: dict[str, str]) -> None:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    changed = {name for name, _ in before.items() ^ environment.items()}
    if any(name.startswith(READ_AGAIN_PREFIXES) for name in changed):
        for name in READ_AGAIN:
            importlib.reload(sys.modules[name])
    of_parent = before.get("PYTHONPATH", "").split(os.pathsep)
    asked = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, asked), *(path for path in sys.path if path not in of_parent)]


def _main() -> None:
    del sys.path[0]  # this script's folder
    control = _hide_first(int(sys.argv[1]))
    _import_all()
    _prctl(PR_SET_NAME, NAME.encode())
    # In the parent this never returns; what is below runs in forked processes.
    start = serve(control)
    try:
        run(start)
    except SystemExit as end:
        code = _code(end)
    except KeyboardInterrupt:
        raise  # the interpreter then ends by the signal
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    else:
        code = 0
    _leave(code)


def _code(end: SystemExit) -> int:
    """Return the exit code that an interpreter makes of it; words are for people."""
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def _leave(code: int) -> None:
    """End as the interpreter does, up to where it takes its modules apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        ctypes.CDLL(None).fflush(None)
    except OSError:
        code = 120
    os._exit(code)


def _hide_first(file: int) -> socket.socket:
    hidden = socket.socket(fileno=fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_FILE))
    os.close(file)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return hidden


if __name__ == "__main__":
    sys.modules["tests.preloaded"] = sys.modules["__main__"]
    start_as(Mode.COLD)
    _main()
