"""The way into the local Azure: an HTTP proxy that answers for Azure's own host names.

A client with HTTPS_PROXY set asks the proxy for a tunnel to, say, management.azure.com. The proxy ends the TLS
itself, with a certificate of its own CA (REQUESTS_CA_BUNDLE), and answers. So the code under test runs with the
settings and addresses of the real cloud, and nothing it calls can leave the machine: a host that is not served here
is refused and remembered.

Faults are injected here, for any service: an answer of one's own, a connection dropped in the middle of a request's
body, a delay.
"""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme


@dataclass
class Request:
    """One request as it came in. ``query`` has the last value of each key."""

    host: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    target: str  # path and query as sent
    body: bytes = b""
    status: int = 0  # of the answer; 0: none was sent

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any, status: int = 200, **headers: str) -> "Response":
        """JSON; header names are written with _ for -."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8", **named})

    @classmethod
    def error(cls, status: int, code: str, message: str, **headers: str) -> "Response":
        """The error body that Azure Resource Manager's specification asks for."""
        return cls.of({"error": {"code": code, "message": message, "details": []}}, status, **headers)


@dataclass
class Fault:
    """What happens to the next ``times`` requests of ``method`` whose host and path match ``pattern``."""

    method: str
    pattern: re.Pattern[str]
    times: int
    answer: Response | None = None
    drop_after: int | None = None  # bytes of the request's body that are read before the connection is cut
    cut_after: int | None = None  # bytes of the answer's body that are sent before the connection is cut
    delay: float = 0  # seconds


Service = Callable[[Request], Response]


class Front:
    """The proxy on a free loopback port. ``services`` maps a host name to what answers for it."""

    def __init__(self, folder: Path, services: dict[str, Service]) -> None:
        self.services = services
        self.calls: list[Request] = []
        self.refused: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        authority = trustme.CA()
        self.bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.bundle)
        self.tls: dict[str, ssl.SSLContext] = {}
        for host in services:
            self.tls[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(host).configure_cert(self.tls[host])

        class Connection(_Connection):
            front = self

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fault(self, method: str, pattern: str, *, times: int = 1, **what: Any) -> Fault:
        """Inject a fault; the oldest one that matches is used up first."""
        fault = Fault(method, re.compile(pattern), times, **what)
        self.faults.append(fault)
        return fault

    def take_fault(self, request: Request) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == request.method and fault.pattern.search(request.host + request.path):
                    fault.times -= 1
                    return fault
        return None


class _Connection(BaseHTTPRequestHandler):
    front: Front
    protocol_version = "HTTP/1.1"
    host = ""
    timeout = 60

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal: the calls are in Front.calls."""

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        if host not in self.front.tls:
            self.front.refused.append(host)
            self.send_error(502, f"{host} is not served here")
            self.close_connection = True
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        self.host = host
        try:
            self.connection = self.front.tls[host].wrap_socket(self.connection, server_side=True)
        except (OSError, ssl.SSLError):  # the client went away, or does not trust the CA
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def answer(self) -> None:
        split = urlsplit(self.path)
        # a plain http request names its host in the target; nothing here speaks plain http
        host = self.host or split.hostname or ""
        query = {key: values[-1] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(host, self.command, split.path, query, headers, self.path)
        with self.front.lock:
            self.front.calls.append(request)
        fault = self.front.take_fault(request)
        length = int(headers.get("content-length", 0))
        if fault and fault.drop_after is not None:
            self.rfile.read(min(fault.drop_after, length))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        request.body = self.rfile.read(length)
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.answer:
            response = fault.answer
        elif host in self.front.services:
            response = self.front.services[host](request)
        else:
            self.front.refused.append(host)
            response = Response(502)
        request.status = response.status
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in response.headers:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if fault and fault.cut_after is not None:
            self.wfile.write(response.body[: fault.cut_after])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer
