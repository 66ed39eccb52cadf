"""The parent that processes are forked from, and what they do first; `tests/preloaded.py` has it started.

    python -m tests.forking FILE

`FILE` is the number of a socket: a request is a `Start` with open files, the answer the id of a process.
"""

from __future__ import annotations

import atexit
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
import sys
import threading
import types
from collections.abc import Sequence
from pathlib import Path

from tests.preloaded import (
    FIRST_OWN_FILE,
    NAME,
    PR_SET_NAME,
    Mode,
    Parent,
    Start,
    become_subreaper,
    exactly,
    prctl,
    start_as,
    starter,
)

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
        become_subreaper()
        ours, control = socket.socketpair()
        if os.fork():
            control.close()
            starter.parent, starter.mode = Parent(ours), Mode.PRELOADED
            return start
        ours.close()
        control = _hide(control)


def _receive(control: socket.socket) -> tuple[Start, list[int]] | None:
    size = struct.calcsize("q")
    header, files, _, _ = socket.recv_fds(control, size, 253)
    if not header:
        return None
    header += exactly(control, size - len(header))
    return Start(**json.loads(exactly(control, struct.unpack("q", header)[0]))), files


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
    prctl(PR_SET_NAME, b"python")
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
    del sys.path[0]  # the repository, from where this was started
    control = _hide_first(int(sys.argv[1]))
    _import_all()
    prctl(PR_SET_NAME, NAME.encode())
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
    start_as(Mode.COLD)
    _main()
