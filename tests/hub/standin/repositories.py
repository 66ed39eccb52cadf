"""Routes about people, repositories, their history and their refs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import yaml

from .messages import Answer, Request, page, route
from .metadata import problems
from .store import Blob, Commit, RefusalError, Repo, is_large


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Answer:
    person = request.person
    if person is None:
        raise RefusalError(401, "Invalid username or password.")
    organisations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in person.organisations]
    auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": person.role}}
    return Answer.json({"type": "user", "name": person.name, "orgs": organisations, "auth": auth})


@route("POST", "/api/repos/create")
def create_repo(request: Request) -> Answer:
    wanted, store = request.json, request.store
    namespace = wanted.get("organization") or (request.person.name if request.person else "")
    person = store.check_writer(namespace, request.person)
    private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
    kind = wanted.get("type", "model")
    try:
        repo = store.create(kind, f"{namespace}/{wanted['name']}", private=private, author=person.name)
    except RefusalError as refusal:
        if "url" in refusal.body:
            refusal.body["url"] = f"{request.base}{refusal.body['url']}"
        raise
    return Answer.json(
        {"url": f"{request.base}{store.web_path(repo)}", "name": repo.repo_id, "id": repo.repo_id}
    )


@route("POST", "/api/validate-yaml")
def validate_yaml(request: Request) -> Answer:
    """Check the metadata of a card as far as the Hub's rules are public."""
    content = request.json["content"]
    if not content.startswith("---\n"):
        return Answer.json(
            {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        )
    try:
        metadata = yaml.safe_load(content.split("---\n", 2)[1])
    except yaml.YAMLError as error:
        return _invalid(f"YAML Metadata Error: {error}")
    if not isinstance(metadata, dict):
        return _invalid("YAML Metadata Error: must be a mapping")
    found = problems(request.json["repoType"], metadata)
    return _invalid(*found) if found else Answer.json({"errors": [], "warnings": []})


def _invalid(*messages: str) -> Answer:
    return Answer.json({"errors": [{"message": message} for message in messages], "warnings": []}, 400)


@route("GET", "/api/{repo}(?:/revision/{revision})?")
def repo_info(request: Request) -> Answer:
    repo = request.repo
    commit = repo.resolve(request.parts["revision"]) if "revision" in request.parts else repo.head
    return Answer.json(_describe(repo, commit))


def _describe(repo: Repo, commit: Commit) -> dict[str, object]:
    readme = commit.files.get("README.md")
    text = readme.content.decode() if readme else ""
    card = yaml.safe_load(text.split("---\n", 2)[1]) if text.startswith("---\n") else None
    siblings = [
        {"rfilename": path, "size": len(blob.content), "blobId": blob.git_oid}
        for path, blob in sorted(commit.files.items())
    ]
    return {
        "_id": repo.repo_id,
        "id": repo.repo_id,
        "modelId": repo.repo_id,
        "author": repo.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repo.history()[-1].date,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": (card or {}).get("tags", []),
        "cardData": card,
        "siblings": siblings,
    }


@route("GET", "/api/{repo}/refs")
def list_refs(request: Request) -> Answer:
    repo = request.repo

    def refs(space: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{space}/{name}", "targetCommit": oid} for name, oid in names.items()
        ]

    return Answer.json(
        {"branches": refs("heads", repo.branches), "tags": refs("tags", repo.tags), "converts": []}
    )


@route("GET", "/api/{repo}/commits/{revision}")
def list_commits(request: Request) -> Answer:
    history = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.description,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in request.repo.history(request.parts["revision"])
    ]
    return page(request, history)


@route("POST", "/api/{repo}/tag/{revision}")
def create_tag(request: Request) -> Answer:
    repo, name = request.own_repo, request.json["tag"]
    commit = repo.resolve(request.parts["revision"])
    if name in repo.tags:
        raise RefusalError(409, f"Tag reference exists: {name}")
    repo.tags[name] = commit.oid
    return Answer.json({})


@route("DELETE", "/api/{repo}/tag/{revision}")
def delete_tag(request: Request) -> Answer:
    tags, name = request.own_repo.tags, request.parts["revision"]
    if name not in tags:
        raise RefusalError(404, f"Tag not found: {name}", code="RevisionNotFound")
    del tags[name]
    return Answer.json({})


@route("POST", "/api/{repo}/branch/{revision}")
def create_branch(request: Request) -> Answer:
    repo, name = request.own_repo, request.parts["revision"]
    if name in repo.branches:
        raise RefusalError(409, f"Reference already exists: refs/heads/{name}")
    start = (json.loads(request.body) if request.body else {}).get("startingPoint", "main")
    repo.branches[name] = repo.resolve(start).oid
    return Answer.json({})


@route("POST", "/api/{repo}/commit/{revision}")
def commit(request: Request) -> Answer:
    """Apply a list of changes at once, or refuse them all."""
    repo, branch = request.own_repo, request.parts["revision"]
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = lines[0]["value"]
    before = repo.resolve(branch)
    files = dict(before.files)
    for line in lines[1:]:
        _apply(line["key"], line["value"], files, repo)
    stale = header.get("parentCommit", before.oid) != before.oid
    if stale and files != before.files:
        raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
    after = repo.add_commit(
        branch,
        files,
        title=header["summary"],
        description=header.get("description", ""),
        author=request.person.name if request.person else "",
    )
    url = f"{request.base}{request.store.web_path(repo)}/commit/{after.oid}"
    return Answer.json({"success": True, "commitOid": after.oid, "commitUrl": url, "hookOutput": ""})


def _apply(key: str, value: dict, files: dict[str, Blob], repo: Repo) -> None:
    path = value["path"]
    if key == "file":
        content = base64.b64decode(value["content"])
        if is_large(path, len(content)):
            raise RefusalError(400, f"Your push was rejected because {path} must be a large file.")
        files[path] = Blob(content, large=False)
    elif key == "lfsFile":
        if value["oid"] not in repo.large:
            raise RefusalError(400, f"LFS pointer pointed to a file that does not exist: {path}")
        files[path] = Blob(repo.large[value["oid"]], large=True)
    elif key == "deletedFile":
        if path not in files:
            raise RefusalError(404, f"A file with this name doesn't exist: {path}", code="EntryNotFound")
        del files[path]
    elif key == "deletedFolder":
        for name in list(_under(path, files)):
            del files[name]
    else:
        raise RefusalError(400, f"unknown operation {key!r}")


def _under(folder: str, files: dict[str, Blob]) -> Iterator[str]:
    return (name for name in files if name.startswith(folder.rstrip("/") + "/"))
