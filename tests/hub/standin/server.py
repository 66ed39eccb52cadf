"""The stand-in Hub as an HTTP server on loopback: people, faults and a log of what was asked."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from ...loopback import LoopbackHandler, serving

# The routes register themselves when they are imported.
from . import collections_api, contents, jobs_api, repositories  # noqa: F401
from .faults import Fault, Faults, Moment
from .messages import Answer, Request, dispatch, parse_query
from .store import Person, RefusalError, Repo, Store


@dataclass(frozen=True)
class Entry:
    """One request that arrived."""

    request: str
    status: int | None
    fault: Fault | None
    body: bytes
    at_s: float
    #: Bytes of the answer's body that were sent.
    sent: int = 0


@dataclass
class StandIn:
    """A running stand-in: what it holds, what will go wrong, and what was asked so far."""

    url: str
    store: Store = field(default_factory=Store)
    faults: Faults = field(default_factory=Faults)
    log: list[Entry] = field(default_factory=list)
    #: What the stand-in itself got wrong: a test that finds any here has proved nothing.
    bugs: list[str] = field(default_factory=list)

    def repo(self, repo_id: str) -> Repo:
        """The repository of that name."""
        return self.store.repos[repo_id]

    def requests(self, part: str = "") -> list[Entry]:
        """The requests so far whose method and path contain `part`."""
        return [entry for entry in list(self.log) if part in entry.request]

    def table(self, repo_id: str, path: str = "results.parquet", revision: str = "main") -> pd.DataFrame:
        """A table that a repository holds."""
        return pd.read_parquet(io.BytesIO(self.repo(repo_id).file(revision, path)))

    def state(self) -> dict[str, object]:
        """All that is published, without dates and names of commits: what each commit and version holds."""
        return {
            name: (
                [(commit.title, dict(commit.files)) for commit in repo.history()],
                {tag: len(repo.history(oid)) for tag, oid in repo.tags.items()},
            )
            for name, repo in self.store.repos.items()
        } | {"collections": [one.items for one in self.store.collections.values()]}

    def leaks(self, folder: Path, token: str) -> list[object]:
        """Every file in a folder, and all that was sent here or is stored, that holds the token."""
        secret = token.encode()
        on_disk = [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]
        sent = [entry.request for entry in self.log if secret in entry.body or token in entry.request]
        stored = [
            (name, path)
            for name, repo in self.store.repos.items()
            for commit in repo.commits.values()
            for path, blob in commit.files.items()
            if secret in blob.content or token in commit.title + commit.description
        ]
        return [*on_disk, *sent, *stored]

    def answer(self, request: Request, fault: Fault | None) -> Answer:
        """Do what is asked, unless a fault forbids it."""
        if fault is not None and fault.moment is Moment.REFUSED:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            if fault.status >= 500:
                # As gateways do. The message of an error that the Hub itself writes is JSON.
                html = f"<html><body><h1>{fault.status}</h1>{fault.message}</body></html>"
                return Answer(html.encode(), fault.status, {"Content-Type": "text/html", **headers})
            # The most dangerous 404: what is there seems not to be.
            code = "RepoNotFound" if fault.status == 404 else None
            refused = Answer.refusal(RefusalError(fault.status, fault.message, code=code))
            return Answer(refused.body, fault.status, {**refused.headers, **headers})
        try:
            return dispatch(request)
        except RefusalError as error:
            return Answer.refusal(error)
        except Exception:
            self.bugs.append(f"{request.method} {request.path}\n{traceback.format_exc()}")
            return Answer.json({"error": "the stand-in is broken"}, 500)


class _Handler(LoopbackHandler):
    protocol_version = "HTTP/1.1"
    # Answers in one packet that is sent at once: else each waits 40 ms for the client's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    hub: StandIn

    def handle_one_request(self) -> None:
        # A client that was killed or gave up closes its end at any time.
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _serve(self) -> None:
        target = urlsplit(self.path)
        line = f"{self.command} {target.path}"
        fault = self.hub.faults.draw(line)
        if fault is not None and fault.action is not None and fault.moment is Moment.BEFORE:
            fault.action()
        if fault is not None and fault.moment is Moment.DROPPED_UPLOAD:
            self.rfile.read(min(1, int(self.headers.get("Content-Length") or 0)))
            self.hub.log.append(Entry(line, None, fault, b"", time.monotonic()))
            return self.hang_up()
        request = Request(
            store=self.hub.store,
            method=self.command,
            path=target.path,
            query=parse_query(target.query),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._body(),
            base=self.hub.url,
            person=None,
        )
        try:
            person = self._person()
            answer = self.hub.answer(Request(**{**request.__dict__, "person": person}), fault)
        except RefusalError as error:
            answer = Answer.refusal(error)
        half = fault is not None and fault.moment is Moment.DROPPED_BODY
        lost = fault is not None and fault.moment is Moment.LOST_REPLY
        sent = 0 if lost or self.command == "HEAD" else len(answer.body) // (2 if half else 1)
        body = b"" if target.path.startswith("/api/jobs/") else request.body  # there are secrets in those
        self.hub.log.append(Entry(line, answer.status, fault, body, time.monotonic(), sent))
        if fault is not None and fault.action is not None and fault.moment is Moment.AFTER:
            fault.action()
        if lost:
            return self.hang_up()
        self._send(answer, half=half)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _person(self) -> Person | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not token:
            return None
        if token in self.hub.store.expired:
            raise RefusalError(401, 'User Access Token "laptop" is expired')
        if token not in self.hub.store.people:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return self.hub.store.people[token]

    def _read(self, size: int) -> bytes:
        """Read all of it: what a client sent before it was killed is no request."""
        content = self.rfile.read(size)
        if len(content) < size:
            raise ConnectionError(f"{len(content)} of {size} bytes arrived")
        return content

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self._read(1) + self.rfile.readline(), 16):
            pieces.append(self._read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, answer: Answer, *, half: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)
        self.wfile.flush()
        if half:
            self.hang_up()


@contextmanager
def serve() -> Iterator[StandIn]:
    """Run a stand-in while the block lasts."""
    handler = type("Handler", (_Handler,), {})
    with serving(handler) as url:
        handler.hub = hub = StandIn(url)
        yield hub
