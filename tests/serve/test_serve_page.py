"""The page of `olivepress serve` in a headless Chromium: smoke-infer's answers, streamed, and no foreign request."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("serve-page")
ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".services/node_modules"  # `make setup-test-services` puts axe and puppeteer there
KEY = "a-key-of-the-test-0123456789"
MOST = 48  # as smoke-infer


class _Noting(SimpleHTTPRequestHandler):
    """Lets everybody read, and notes what is asked for."""

    def __init__(self, *args: Any, asked: list[str], **kwargs: Any) -> None:
        self.asked = asked
        super().__init__(*args, **kwargs)

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append(self.path)


@contextmanager
def elsewhere(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Another server's address, and the paths that were asked of it."""
    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Noting, directory=str(folder), asked=asked)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


def use(url: str, asks: list[dict[str, Any]], folder: Path, key: str | None = None) -> dict[str, Any]:
    """What Chromium saw of the page, and what another server was asked for."""
    chromium = shutil.which("chromium")
    assert chromium and (MODULES / "puppeteer-core").is_dir(), "run make setup-test-services"
    with elsewhere(folder) as (other, asked):
        task = {"modules": str(MODULES), "chromium": chromium, "url": f"{url}/", "elsewhere": other}
        command = ["node", str(Path(__file__).parent / "page.mjs")]
        sent = json.dumps({**task, "key": key, "asks": asks})
        done = subprocess.run(command, input=sent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "elsewhere": asked}


def name(adapter: str | None) -> str:
    return f"ft-for-travel:{adapter}" if adapter else "ft-for-travel"


@pytest.fixture(scope="module")
def seen(server, answers, tmp_path_factory) -> dict[str, Any]:
    asks = [{"model": name(one["adapter"]), "prompts": [one["prompt"]], "most": MOST} for one in answers]
    two = {"model": name("travel"), "prompts": [answers[0]["prompt"], "And in winter?"], "most": 8}
    wrong = {"model": name(None), "prompts": ["a question with <|end|> in it"], "most": 8}
    stopped = {"model": name(None), "prompts": ["What is the best thing to see in Chicago?"], "most": 400, "stop": 20}
    return use(server.url, [*asks, two, wrong, stopped], tmp_path_factory.mktemp("elsewhere"))


def test_base_and_adapters_answer_as_smoke_infer_has_it(seen, answers):
    assert seen["models"] == [name(None), name("travel"), name("cooking")]
    for expected, found in zip(answers, seen["answers"], strict=False):
        (shown,) = found["shown"]
        assert shown["text"] == expected["text"]
        # the token that ends an answer is counted, and no part of smoke-infer's
        assert int(shown["tokens"]) == len(expected["tokens"])
        assert found["pieces"] > 3, "it came piece by piece"
        assert re.fullmatch(r"\d+ tokens in \d+\.\d\d s, the first words after \d+\.\d\d s\.", found["state"])


def test_a_conversation_goes_on(seen, server, answers):
    first, second = (one["text"] for one in seen["answers"][-3]["shown"])
    messages = [
        {"role": "user", "content": answers[0]["prompt"]},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And in winter?"},
    ]
    reply = server.client().chat.completions.create(model=name("travel"), messages=messages, max_tokens=8)
    assert second == reply.choices[0].message.content


def test_a_refusal_is_shown_and_an_answer_can_be_stopped(seen, server):
    (refused,) = seen["answers"][-2]["shown"]
    assert refused["wrong"] and "control token" in refused["text"]
    (stopped,) = seen["answers"][-1]["shown"]
    assert stopped["ended"] == "stopped" and len(stopped["text"]) >= 20
    assert seen["answers"][-1]["state"] == "Stopped."
    server.idle()


def test_it_asks_this_server_alone_and_can_ask_no_other(seen, server):
    own = ("/", "/chat.js", "/talk.css", "/talk.js", "/icon.svg", "/v1/models", "/v1/chat/completions")
    assert set(seen["asked"]) == {server.url + path for path in own}
    assert seen["refused"] == {"fetched": "TypeError", "injected": "not run"}
    assert seen["elsewhere"] == []
    policy = seen["headers"]["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert seen["headers"]["x-content-type-options"] == "nosniff"
    # what the server refused is an error to the browser's console, too
    assert [line for line in seen["unasked"] if "status of 400" not in line] == []


def test_every_file_of_it_has_the_policy_and_its_type(server):
    kinds = {"/": "text/html", "/talk.css": "text/css", "/talk.js": "text/javascript", "/icon.svg": "image/svg+xml"}
    with server.http() as http:
        for path, kind in kinds.items():
            found = http.get(path)
            assert found.status_code == 200 and found.headers["content-type"].partition(";")[0] == kind
            assert found.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")


def test_it_can_be_used_by_all(seen):
    assert seen["violations"] == []
    assert seen["sideways"] == 0


def test_a_key_is_asked_for_and_kept_nowhere(serving, release, answers, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{KEY}\n")
    one = next(answer for answer in answers if answer["adapter"] == "travel")
    with serving("--folder", release, "--graph", "portable", "--api-keys", keys) as server:
        asks = [{"model": name("travel"), "prompts": [one["prompt"]], "most": MOST}]
        seen = use(server.url, asks, tmp_path, KEY)
        assert "a key is missing" in seen["locked"]
        assert seen["answers"][0]["shown"][0]["text"] == one["text"]
        assert not any(KEY in url for url in seen["asked"])
        assert KEY not in server.said
