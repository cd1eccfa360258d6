"""A hub on loopback: the calls that huggingface_hub and datasets make to list a revision and to download its files."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

API = re.compile(r"/api/(?:models|datasets)/(?P<name>[\w.-]+/[\w.-]+)/revision/(?P<revision>[^/?]+)(?:\?.*)?")
TREE = re.compile(
    r"/api/(?:models|datasets)/(?P<name>[\w.-]+/[\w.-]+)/tree/(?P<revision>[^/?]+)(?:/(?P<path>[^?]+))?(?:\?(?P<query>.*))?"
)
PATHS = re.compile(r"/api/datasets/(?P<name>[\w.-]+/[\w.-]+)/paths-info/(?P<revision>[^/?]+)(?:\?.*)?")
FILE = re.compile(r"(?:/datasets)?/(?P<name>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<path>[^?]+)")


class Hub:
    """One repository at one commit.

    ``break_after`` so many bytes of a file's body, the connection drops, once a file. ``broken`` files answer with
    status 507, which huggingface_hub takes as final (it would try 500 again for 20 seconds). ``refuse`` is a status for
    every call, with the hub's error code header. ``about`` is what the listing also says (cardData, safetensors).
    ``requests`` lists (method, path, Range header) of all calls.
    """

    def __init__(self, name: str, commit: str, files: dict[str, bytes]) -> None:
        self.name, self.commit, self.files = name, commit, files
        self.break_after: dict[str, int] = {}
        self.broken: set[str] = set()
        self.about: dict[str, object] = {}
        self.refuse: tuple[int, str] | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def do_POST(self) -> None:
                hub.requests.append((self.command, self.path, None))
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                known = [self.entry(path) for path in asked.get("paths", []) if self.entry(path)]
                found = PATHS.fullmatch(self.path)
                self.reply(
                    200 if found else 404, json.dumps(known).encode(), {"Content-Type": "application/json"}, True
                )

            def answer(self, body: bool) -> None:
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                if hub.refuse:
                    self.reply(hub.refuse[0], b"{}", {"X-Error-Code": hub.refuse[1]}, body)
                elif match := API.fullmatch(self.path):
                    self.list_revision(match, body)
                elif match := TREE.fullmatch(self.path):
                    self.list_files(match, body)
                elif match := FILE.fullmatch(self.path):
                    self.send_file(match, body)
                else:
                    self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)

            def list_revision(self, match: re.Match[str], body: bool) -> None:
                if match["name"] != hub.name:
                    self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
                elif match["revision"] not in ("main", hub.commit):
                    self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                else:
                    siblings = [{"rfilename": path, "size": len(data)} for path, data in hub.files.items()]
                    info = {
                        "id": hub.name,
                        "modelId": hub.name,
                        "sha": hub.commit,
                        "siblings": siblings,
                        "tags": [],
                        **hub.about,
                    }
                    self.reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)

            def entry(self, path: str) -> dict[str, object] | None:
                """What the hub says of a file or folder; None if there is none."""
                data = hub.files.get(path)
                if data is not None:
                    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                inside = any(name.startswith(f"{path}/") for name in hub.files)
                return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40} if inside else None

            def list_files(self, match: re.Match[str], body: bool) -> None:
                below = f"{match['path']}/" if match["path"] else ""
                paths = [path for path in hub.files if path.startswith(below)]
                if "recursive=true" not in (match["query"] or "recursive=true").lower():
                    paths = list(dict.fromkeys(below + path.removeprefix(below).split("/")[0] for path in paths))
                if below and not paths:
                    self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                files = [self.entry(path) for path in paths]
                self.reply(200, json.dumps(files).encode(), {"Content-Type": "application/json"}, body)

            def send_file(self, match: re.Match[str], body: bool) -> None:
                data = hub.files.get(match["path"])
                if match["path"] in hub.broken:
                    self.reply(507, b"{}", {}, body)
                    return
                if data is None or match["revision"] != hub.commit:
                    self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": hub.commit}
                start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
                begin = int(start[1]) if start else 0
                if begin:
                    headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
                limit = hub.break_after.pop(match["path"], None) if body else None
                self.reply(206 if begin else 200, data[begin:], headers, body, limit)

            def reply(
                self, status: int, data: bytes, headers: dict[str, str], body: bool, limit: int | None = None
            ) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data[:limit])
                if limit is not None:
                    self.wfile.flush()
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def downloads(self, path: str) -> list[str | None]:
        """The Range header of every GET of a file."""
        return [ranged for method, asked, ranged in self.requests if method == "GET" and asked.endswith(f"/{path}")]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def serve_this_process(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the libraries, which read the environment once, ask ``hub`` for what this process wants of a hub."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
