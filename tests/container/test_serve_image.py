"""The server's image: small, read-only, an ordinary user; it answers OpenAI's client as smoke-infer has it."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from images import DOCKER, ROOT, SECRET, build, docker

from olivepress import __version__

NAME = "ft-for-travel"
TARGET = "cpu-int4"
KEY = "a-key-of-the-container-test"
# as docker/serve/compose.yaml has it, and as somebody whom neither this machine nor the image knows
LOCKED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "4321:8765"]
MOST_BYTES = 400e6
LONG = {"type": "json_schema", "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 10_000}}}


@pytest.fixture(scope="module")
def image() -> str:
    if docker("info", check=False).returncode:
        pytest.fail("Docker does not answer. Start it (.ci/run does), or leave this test out: make test.")
    return build("serve", "olivepress-test:serve")


@pytest.fixture(scope="module")
def release(finished, tmp_path_factory) -> Path:
    """The release that the pipeline made, where anybody can read it; beside it a file of keys."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(
        finished.folder / "models/onnx" / TARGET, folder / NAME, ignore=shutil.ignore_patterns(".gitignore")
    )
    (folder / "keys.txt").write_text(f"{KEY}\n")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / NAME


@pytest.fixture(scope="module")
def answers(finished) -> list[dict[str, Any]]:
    folder = finished.folder / "results/answers" / TARGET
    return [answer for path in sorted(folder.glob("*.json")) for answer in json.loads(path.read_text())]


class Container:
    """A running server, by its name and its address on this machine."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(docker("inspect", self.name).stdout)[0]["State"]

    @property
    def said(self) -> str:
        logs = docker("logs", self.name)
        return logs.stdout + logs.stderr

    def wait(self) -> None:
        """Until Docker calls it healthy."""
        ends = time.monotonic() + 120
        while (state := self.state)["Health"]["Status"] != "healthy":
            assert state["Running"] and time.monotonic() < ends, self.said
            time.sleep(0.5)

    @property
    def url(self) -> str:
        return f"http://{docker('port', self.name, '8000').stdout.splitlines()[0]}"

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def running(image) -> Callable[..., Any]:
    """(options of docker run, the command's) -> a context with a healthy Container, which is gone after it."""

    @contextmanager
    def start(options: list[str], *words: str, tag: str = image) -> Iterator[Container]:
        container = Container(f"olivepress-test-{uuid.uuid4().hex[:8]}")
        docker("run", "--detach", "--name", container.name, *LOCKED, *options, tag, *words)
        try:
            container.wait()
            yield container
        finally:
            docker("rm", "--force", "--volumes", container.name)

    return start


def published(release: Path) -> list[str]:
    keys = f"{release.parent / 'keys.txt'}:/run/secrets/api-keys:ro"
    return ["-v", f"{release}:/release:ro", "-v", keys, "-p", "127.0.0.1::8000"]


@pytest.fixture(scope="module")
def container(running, release) -> Iterator[Container]:
    """One that wants a key, and answers by the graph that smoke-infer asked."""
    with running(published(release), "--graph", "portable", "--api-keys", "/run/secrets/api-keys") as found:
        yield found


def test_it_is_small_and_says_what_it_is(image):
    found = json.loads(docker("inspect", image).stdout)[0]
    print(f"the server's image has {found['Size'] / 1e6:.0f} MB")
    assert found["Size"] <= MOST_BYTES
    labels = {key.rpartition(".")[2]: value for key, value in found["Config"]["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == ("olivepress-serve", __version__, "MIT")
    assert found["Config"]["User"] == "1000:1000"


def test_it_holds_what_serving_needs_and_nothing_of_this_machine(image):
    def ask(user: str, script: str) -> list[str]:
        options = ["--rm", "--user", user, "--entrypoint", "sh"]
        return docker("run", *options, image, "-c", script, check=False).stdout.split()

    tools = "for tool in git cc gcc ld make pip pip3 uv curl; do command -v $tool; done"
    assert ask("1000", tools) == []
    packages = " ".join(ask("1000", "ls /opt/venv/lib/python3*/site-packages"))
    assert "onnxruntime_genai" in packages
    assert not re.search(r"\b(torch|transformers|dvc|onnx|pip|setuptools|tokenizers)\b", packages)
    left = "find / -xdev ( -name *.whl -o -path */.cache/* -o -name pip.conf -o -path /run/secrets/* -o -name *.deb )"
    assert ask("0", left.replace("(", "\\(").replace(")", "\\)").replace("*", "\\*")) == []
    saved = subprocess.Popen([DOCKER, "save", image], stdout=subprocess.PIPE)
    words = [part for word in (SECRET, "org.opencontainers.image.title", str(ROOT)) for part in ("-e", word)]
    command = ["grep", "--text", "--only-matching", "--fixed-strings", *words]
    found = subprocess.run(command, stdin=saved.stdout, capture_output=True, text=True, check=False)
    assert saved.wait() == 0
    assert set(found.stdout.split()) == {"org.opencontainers.image.title"}, "and the labels show that it was searched"


def test_openais_client_gets_smoke_infers_answers(container, answers):
    client = container.client(KEY)
    assert {answer["adapter"] for answer in answers} == {None, "travel", "cooking"}
    for one in answers:
        model = f"{NAME}:{one['adapter']}" if one["adapter"] else NAME
        said = [{"role": "user", "content": one["prompt"]}]
        reply = client.chat.completions.create(model=model, messages=said, max_tokens=48)
        assert reply.choices[0].message.content == one["text"]
        assert reply.usage.completion_tokens == len(one["tokens"])


def test_who_has_no_key_sees_the_page_alone(container):
    with urllib.request.urlopen(container.url) as page:
        assert b"<title>Olive Press</title>" in page.read()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    with pytest.raises(openai.AuthenticationError):
        container.client("another-key-0123456789").models.list()
    assert KEY not in container.said and KEY not in docker("inspect", container.name).stdout


def test_docker_stop_lets_an_answer_end(running, release):
    with running([*published(release), "--cpus", "0.5"]) as container:
        stream = container.client().chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": "hi"}], max_tokens=480, response_format=LONG, stream=True
        )
        next(stream)
        stopping = subprocess.Popen([DOCKER, "stop", "--time", "60", container.name], stdout=subprocess.DEVNULL)
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"
        assert stopping.wait(90) == 0
        assert container.state["ExitCode"] == 0
        assert container.said.endswith("Ended.\n")


def test_a_child_image_brings_the_release_and_needs_no_network(image, running, release, tmp_path):
    """The admin's token comes from the environment, and is in no layer."""
    shutil.copytree(release, tmp_path / NAME)
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nCOPY {NAME} /release\n")
    tag = "olivepress-test:serve-child"
    docker("build", "--tag", tag, str(tmp_path))
    ask = (
        "import json, urllib.request as r; body = json.dumps({'model': 'ft-for-travel', 'messages': "
        "[{'role': 'user', 'content': 'hi'}], 'max_tokens': 4}).encode(); print(r.urlopen(r.Request("
        "'http://127.0.0.1:8000/v1/chat/completions', body, {'Content-Type': 'application/json'})).read().decode())"
    )
    try:
        with running(["--network", "none"], tag=tag) as container:
            reply = json.loads(docker("exec", container.name, "python", "-c", ask).stdout)
            assert reply["usage"]["completion_tokens"] == 4
    finally:
        docker("rmi", "--force", tag)


def test_what_is_no_release_or_was_changed_is_one_line(image, release, tmp_path):
    broken = shutil.copytree(release, tmp_path / NAME)
    (broken / "model/LICENSE").write_text("another\n")
    for mounts, words in (([], "Expected a release"), (["-v", f"{broken}:/release:ro"], "Nothing is loaded")):
        done = docker("run", "--rm", *LOCKED, *mounts, image, check=False)
        assert done.returncode == 1
        assert words in done.stderr and "Traceback" not in done.stderr


def test_compose_runs_it_as_these_tests_do():
    service = yaml.safe_load((ROOT / "docker/serve/compose.yaml").read_text())["services"]["serve"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["command"] == ["--api-keys", "/run/secrets/api-keys"]
    dockerfile = (ROOT / "docker/serve/Dockerfile").read_text()
    assert f"CMD {json.dumps(service['healthcheck']['test'][1:])}" in dockerfile
