"""Routes about files: listings, downloads, and the upload of large files."""

from __future__ import annotations

import hashlib
import json
import re

from .messages import Answer, Request, page, parse_query, route
from .store import Blob, Commit, RefusalError, is_large


@route("GET", "/api/{repo}/tree/{revision}(?:/{path})?")
def tree(request: Request) -> Answer:
    """The entries of one folder, or of everything under it."""
    folder = request.parts.get("path", "").rstrip("/")
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    commit, start = request.commit, f"{folder}/" if folder else ""
    inside = [path for path in commit.files if path.startswith(start)]
    if folder and not inside:
        raise RefusalError(404, f"{folder} does not exist", code="EntryNotFound")
    folders = {path[: match.start()] for path in inside for match in re.finditer("/", path)}
    entries = [_file_entry(path, commit.files[path]) for path in inside]
    entries += [_folder_entry(path, commit) for path in folders if path.startswith(start)]
    if not recursive:
        entries = [entry for entry in entries if "/" not in str(entry["path"])[len(start) :]]
    return page(request, sorted(entries, key=lambda entry: str(entry["path"])))


@route("POST", "/api/{repo}/paths-info/{revision}")
def paths_info(request: Request) -> Answer:
    """The same entries for named paths; those that do not exist are left out."""
    commit = request.commit
    posted = parse_query(request.body.decode())
    found = []
    for path in posted.get("paths", []):
        if path in commit.files:
            found.append(_file_entry(path, commit.files[path]))
        elif any(name.startswith(path.rstrip("/") + "/") for name in commit.files):
            found.append(_folder_entry(path, commit))
    return Answer.json(found)


def _file_entry(path: str, blob: Blob) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_oid}
    if blob.large:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return entry


def _folder_entry(path: str, commit: Commit) -> dict[str, object]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


@route("GET", "/{web_repo}/resolve/{revision}/{path}")
def resolve(request: Request) -> Answer:
    """The content of one file, or a range of it."""
    commit, path = request.commit, request.parts["path"]
    if path not in commit.files:
        error = RefusalError(404, "Entry not found", code="EntryNotFound")
        refused = Answer.refusal(error)
        return Answer(refused.body, 404, {**refused.headers, "X-Repo-Commit": commit.oid})
    blob = commit.files[path]
    headers = {
        "X-Repo-Commit": commit.oid,
        "ETag": f'"{blob.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if blob.large:
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Answer(blob.content, 200, headers)
    start, end = int(asked[1]), min(int(asked[2] or len(blob.content)) + 1, len(blob.content))
    if start >= len(blob.content):
        return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{len(blob.content)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(blob.content)}"
    return Answer(blob.content[start:end], 206, headers)


@route("POST", "/api/{repo}/preupload/{revision}")
def preupload(request: Request) -> Answer:
    """Say which files go to git and which are large, and what is there already."""
    request.own_repo  # noqa: B018  # whoever may not write is refused here
    known = request.commit.files
    files = [
        {
            "path": (path := file["path"]),
            "uploadMode": "lfs" if is_large(path, file["size"]) else "regular",
            "shouldIgnore": False,
            "oid": known[path].etag if path in known else None,
        }
        for file in request.json["files"]
    ]
    return Answer.json({"files": files, "commitOid": request.commit.oid})


@route("POST", "/{web_repo}\\.git/info/lfs/objects/batch")
def lfs_batch(request: Request) -> Answer:
    """Say where each large file is to be uploaded, if it is not there yet."""
    repo = request.own_repo
    objects = []
    for wanted in request.json["objects"]:
        oid, answer = wanted["oid"], {"oid": wanted["oid"], "size": wanted["size"]}
        if oid not in repo.large:
            place = f"{request.base}/large/{request.parts['kind'] or 'models/'}{repo.repo_id}/{oid}"
            signature = hashlib.sha256(f"signed {repo.repo_id} {oid}".encode()).hexdigest()
            answer["actions"] = {
                "upload": {"href": f"{place}?signature={signature}"},
                "verify": {"href": f"{place}/verify"},
            }
        objects.append(answer)
    return Answer.json({"transfer": "basic", "objects": objects})


@route("PUT", "/large/{repo}/{oid}")
def lfs_put(request: Request) -> Answer:
    """Take the content of a large file; the address itself is the permission."""
    repo = request.store.repos[request.repo_id]
    oid = request.parts["oid"]
    signature = hashlib.sha256(f"signed {repo.repo_id} {oid}".encode()).hexdigest()
    if request.query.get("signature") != [signature]:
        raise RefusalError(403, "SignatureDoesNotMatch")
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise RefusalError(400, "BadDigest")
    repo.large[oid] = request.body
    return Answer(b"")


@route("POST", "/large/{repo}/{oid}/verify")
def lfs_verify(request: Request) -> Answer:
    """Confirm that a large file has arrived whole."""
    stored = request.own_repo.large.get(request.parts["oid"])
    if stored is None or len(stored) != json.loads(request.body)["size"]:
        raise RefusalError(404, "Object does not exist on the server")
    return Answer.json({})
