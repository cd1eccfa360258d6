"""A model hub on loopback: the calls that huggingface_hub makes to list a revision and to download its files."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API = re.compile(r"/api/models/(?P<name>[\w.-]+/[\w.-]+)/revision/(?P<revision>[^/?]+)(?:\?.*)?")
TREE = re.compile(r"/api/models/(?P<name>[\w.-]+/[\w.-]+)/tree/(?P<revision>[^/?]+)(?:\?.*)?")
FILE = re.compile(r"/(?P<name>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<path>[^?]+)")


class Hub:
    """One repository at one commit.

    ``break_after`` so many bytes of a file's body, the connection drops, once a file. ``broken`` files answer with
    status 500. ``refuse`` is a status for every call, with the hub's error code header. ``requests`` lists (method,
    path, Range header) of all calls.
    """

    def __init__(self, name: str, commit: str, files: dict[str, bytes]) -> None:
        self.name, self.commit, self.files = name, commit, files
        self.break_after: dict[str, int] = {}
        self.broken: set[str] = set()
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

            def answer(self, body: bool) -> None:
                hub.requests.append((self.command, self.path, self.headers.get("Range")))
                if hub.refuse:
                    self.reply(hub.refuse[0], b"{}", {"X-Error-Code": hub.refuse[1]}, body)
                elif match := API.fullmatch(self.path):
                    self.list_revision(match, body)
                elif match := TREE.fullmatch(self.path):
                    self.list_files(body)
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
                    info = {"id": hub.name, "modelId": hub.name, "sha": hub.commit, "siblings": siblings, "tags": []}
                    self.reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)

            def list_files(self, body: bool) -> None:
                files = [
                    {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in hub.files.items()
                ]
                self.reply(200, json.dumps(files).encode(), {"Content-Type": "application/json"}, body)

            def send_file(self, match: re.Match[str], body: bool) -> None:
                data = hub.files.get(match["path"])
                if match["path"] in hub.broken:
                    self.reply(500, b"{}", {}, body)
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
