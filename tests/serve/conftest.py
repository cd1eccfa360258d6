"""Servers on loopback over the release that the pipeline made."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

TARGET = "cpu-int4"


class Server:
    """`olivepress serve` as a process, until `end`."""

    def __init__(self, log: Path, *options: str | Path, cwd: Path | None = None, admin: str | None = None) -> None:
        self.log = log
        command = [sys.executable, "-m", "olivepress", "serve", "--port", "0", *map(str, options)]
        kept = {name: value for name, value in os.environ.items() if name != "OLIVEPRESS_ADMIN_TOKEN"}
        environment = {**kept, **({"OLIVEPRESS_ADMIN_TOKEN": admin} if admin else {})}
        with log.open("w") as file:
            self.process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=file, stderr=file)
        while not (found := re.search(r" at (http://\S+)/v1$", self.said, re.M)):
            assert self.process.poll() is None, self.said
            time.sleep(0.05)
        self.url = found[1]
        self._http = self.http()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, "timeout": 120, **options})

    def http(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=120, **options)

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        lines = self._http.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"olivepress_{name}[ {{]", line))

    def idle(self) -> None:
        """Wait until nothing is being written."""
        ends = time.monotonic() + 60
        while self.metric("answers_running") or self.metric("requests_waiting"):
            assert time.monotonic() < ends, "an answer goes on"
            time.sleep(0.02)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._http.close()
        return self.process.wait(60)


@pytest.fixture(scope="session")
def release(finished, tmp_path_factory) -> Path:
    """The release that the pipeline made, on its own. Copy it, do not change it."""
    folder = tmp_path_factory.mktemp("serve") / "ft-for-travel"
    shutil.copytree(finished.folder / "models/onnx" / TARGET, folder, ignore=shutil.ignore_patterns(".gitignore"))
    return folder


@pytest.fixture(scope="session")
def answers(finished) -> list[dict[str, Any]]:
    """What smoke-infer wrote, of every adapter and of none: adapter, prompt, text, tokens."""
    folder = finished.folder / "results/answers" / TARGET
    every = [answer for path in sorted(folder.glob("*.json")) for answer in json.loads(path.read_text())]
    assert {answer["adapter"] for answer in every} == {None, "travel", "cooking"}
    return every


@pytest.fixture
def serving(tmp_path) -> Callable[..., Any]:
    """(options, …) -> a context with a Server, which has ended after it."""

    @contextmanager
    def start(*options: str | Path, **more: Any) -> Iterator[Server]:
        server = Server(tmp_path / "server.log", *options, **more)
        try:
            yield server
        finally:
            server.end()

    return start


@pytest.fixture(scope="session")
def server(release, tmp_path_factory) -> Iterator[Server]:
    """One that answers by the portable graph, whose answers smoke-infer wrote."""
    found = Server(tmp_path_factory.mktemp("server") / "log", "--folder", release, "--graph", "portable")
    yield found
    assert found.end() == 0, found.said
    assert "Traceback" not in found.said, found.said
