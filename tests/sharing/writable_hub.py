"""A hub on loopback that can be written: repositories with commits and tags, files in git or in large storage.

It answers what huggingface_hub asks, by the hub's published API, and keeps everything in memory.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_a-token-that-may-write"
LARGE = 1000  # bytes from which a file goes to large storage; the hub's own limit is 10 MB
NAME = r"(?P<name>[\w.-]+/[\w.-]+)"


class Repository:
    """``commits``: (id, files) from the first to the newest; ``tags``: name -> commit id."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.tags: dict[str, str] = {}
        self.commit({".gitattributes": b"* filter=lfs\n"})

    def commit(self, files: dict[str, bytes]) -> str:
        text = repr(
            (len(self.commits), sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items()))
        )
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit by its id, a tag or main."""
        revision = self.commits[-1][0] if revision == "main" else self.tags.get(revision, revision)
        return next(((oid, files) for oid, files in self.commits if oid == revision), None)


class WritableHub:
    """``repositories`` by name; ``requests`` (method, path) of all calls; ``lose``: paths whose bytes a commit changes.

    Without TOKEN nothing is written, and nothing private read.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.lose: set[str] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: WritableHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    do_PUT = do_POST

    def answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        for pattern, method, act in ROUTES:
            if method == self.command.replace("HEAD", "GET") and (match := re.fullmatch(pattern, path)):
                groups = match.groupdict()
                if "name" in groups and not self.may(groups["name"], write=method != "GET"):
                    return
                act(self, body, **groups)
                return
        self.say(404, {"error": f"no such call: {self.command} {path}"})

    def may(self, name: str, *, write: bool) -> bool:
        """Whether the caller may; if not, it is told."""
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not known):
            self.say(404 if known else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif write and not known:
            self.say(403, {"error": "Forbidden"})
        else:
            return True
        return False

    def say(self, status: int, found: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(found).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = self.hub.repositories[name].find(revision)
        if found is None:
            self.say(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        return found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.say(401, {"error": "Unauthorized"})
        elif name in self.hub.repositories:
            self.say(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        else:
            self.hub.repositories[name] = Repository(asked.get("private") or asked.get("visibility") == "private")
            self.say(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def validate(self, body: bytes) -> None:
        header = json.loads(body)["content"].split("---\n")[1:2]
        known = yaml.safe_load(header[0]) if header else {}
        wrong = [] if isinstance(known, dict) and known.get("license") else [{"message": "no license"}]
        self.say(400 if wrong else 200, {"errors": wrong, "warnings": []})

    def refs(self, body: bytes, name: str) -> None:
        found = self.hub.repositories[name]
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": oid} for t, oid in found.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": found.commits[-1][0]}
        self.say(200, {"branches": [main], "tags": tags, "converts": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        _, there = self.hub.repositories[name].commits[-1]
        files = []
        for file in json.loads(body)["files"]:
            path, large = file["path"], file["size"] >= LARGE
            known = _entry(path, there[path]) if path in there else {}
            oid = known.get("lfs", {}).get("oid") if large else known.get("oid")
            mode = "lfs" if large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.say(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        objects = [
            {
                **{key: one[key] for key in ("oid", "size")},
                "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}", "header": {}}},
            }
            for one in json.loads(body)["objects"]
        ]
        self.say(200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"})

    def store(self, body: bytes, oid: str) -> None:
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.hub.large[oid] = body
        self.say(200 if right else 400, {})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        found = self.hub.repositories[name]
        files = dict(found.commits[-1][1])
        for line in map(json.loads, body.decode().splitlines()):
            what, value = line["key"], line["value"]
            if what == "header" and value.get("parentCommit") not in (None, found.commits[-1][0]):
                self.say(412, {"error": "the branch has moved"})
                return
            if what == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif what == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif what == "deletedFile":
                del files[value["path"]]
        for path in self.hub.lose & set(files):
            files[path] += b"\n"
        oid = found.commit(files)
        self.say(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def tag(self, body: bytes, name: str, revision: str) -> None:
        tags, tag = self.hub.repositories[name].tags, json.loads(body)["tag"]
        if tag in tags:
            self.say(409, {"error": "Tag reference exists already"})
        elif found := self.at(name, revision):
            tags[tag] = found[0]
            self.say(200, {})

    def info(self, body: bytes, name: str, revision: str) -> None:
        if found := self.at(name, revision):
            siblings = [{"rfilename": path, "size": len(data)} for path, data in found[1].items()]
            self.say(200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings, "tags": []})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if found := self.at(name, revision):
            self.say(200, [_entry(path, data) for path, data in found[1].items()])

    def file(self, body: bytes, name: str, revision: str, path: str) -> None:
        found = self.at(name, revision)
        if found and path not in found[1]:
            self.say(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        elif found:
            etag = hashlib.sha256(found[1][path]).hexdigest()
            self.send(200, found[1][path], {"ETag": f'"{etag}"', "X-Repo-Commit": found[0]})


def _entry(path: str, data: bytes) -> dict[str, Any]:
    large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return {"type": "file", "path": path, "size": len(data), "oid": blob} | (
        {"lfs": large} if len(data) >= LARGE else {}
    )


ROUTES = [
    (r"/api/repos/create", "POST", _Handler.create),
    (r"/api/validate-yaml", "POST", _Handler.validate),
    (rf"/api/models/{NAME}/refs", "GET", _Handler.refs),
    (rf"/api/models/{NAME}/preupload/(?P<revision>.+)", "POST", _Handler.preupload),
    (rf"/{NAME}\.git/info/lfs/objects/batch", "POST", _Handler.batch),
    (r"/large/(?P<oid>[0-9a-f]{64})", "PUT", _Handler.store),
    (rf"/api/models/{NAME}/commit/(?P<revision>.+)", "POST", _Handler.commit),
    (rf"/api/models/{NAME}/tag/(?P<revision>.+)", "POST", _Handler.tag),
    (rf"/api/models/{NAME}/revision/(?P<revision>.+)", "GET", _Handler.info),
    (rf"/api/models/{NAME}/tree/(?P<revision>[^/]+)", "GET", _Handler.tree),
    (rf"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "GET", _Handler.file),
]
