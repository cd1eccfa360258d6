"""What the pipeline's first run in the tests has on its path: it sees whoever asks the network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "no_network"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import socket; socket.create_connection(('192.0.2.1', 9), 1)", "192.0.2.1"),
        ("import socket; socket.getaddrinfo('model.invalid', 443)", "socket.getaddrinfo model.invalid"),
        ("import urllib.request; urllib.request.urlopen('http://model.invalid/')", "socket.getaddrinfo model.invalid"),
        ("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); "
         "socket.create_connection(s.getsockname(), 5)", ""),
    ],
)  # fmt: skip
def test_who_asks_is_refused_and_written_down(tmp_path, code, expected):
    log = tmp_path / "log"
    log.touch()
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PRESS_NETWORK_LOG": str(log)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (expected == ""), done.stderr
    assert expected in log.read_text()
    assert bool(log.read_text()) == bool(expected)
