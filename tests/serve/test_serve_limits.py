"""What a server does not do, and how it says so: limits, keys, disconnects, bad bodies, its end."""

import json
import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAME = "ft-for-travel"
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CALLED = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BROKEN = {**CALLED, "function": {"name": "f", "arguments": "[1]"}}
# A schema whose answer is as long as wanted: the model may not end it earlier.
LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 10_000}},
}
KEY, OTHER = "a-key-of-the-tests", "another-key-of-tests"


def refusal(caught: pytest.ExceptionInfo) -> dict:
    """OpenAI's error object; the client has read it."""
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    return caught.value.body


# --- what is asked


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
        ({"function_call": "auto"}, "function_call", "unsupported_parameter"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools.0.type", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "invalid_value"),
        ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "any"}, "tool_choice", "invalid_value"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "nothing"}}}]},
            "tools",
            "invalid_schema",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALLED]}]}, "messages.0", "invalid_value"),
        ({"messages": [{"role": "assistant", "tool_calls": [BROKEN]}]}, "messages", "invalid_value"),
        ({"extra_body": {"top_k": 3}}, "top_k", "unknown_parameter"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unknown_parameter"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "invalid_value"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "a <|end|> b"}]}, "messages", "invalid_value"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
            "messages.0.tool_call_id",
            "invalid_value",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0", "invalid_value"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "hi"}]}, "messages", "invalid_value"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(server, more, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().chat.completions.create(**{"model": NAME, "messages": HELLO, **more})
    found = refusal(caught)
    assert (found["param"], found["code"], found["type"]) == (param, code, "invalid_request_error")


def test_what_changes_nothing_is_taken(server):
    found = server.client().chat.completions.create(
        model=NAME, messages=HELLO, n=1, frequency_penalty=0, presence_penalty=0, logprobs=False, user="me", top_p=1
    )
    assert found.choices[0].message.content


@pytest.mark.parametrize("model", ["other", f"{NAME}:other", f"{NAME}:", "", f"{NAME}:travel:travel"])
def test_an_unknown_model_is_not_found(server, model):
    with pytest.raises(openai.NotFoundError) as caught:
        server.client().chat.completions.create(model=model, messages=HELLO)
    assert refusal(caught)["code"] == "model_not_found"


@pytest.mark.parametrize(("words", "most"), [(2000, None), (2, 511)])
def test_what_does_not_fit_the_context_is_refused(server, words, most):
    messages = [{"role": "user", "content": "hello " * words}]
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().chat.completions.create(model=NAME, messages=messages, max_tokens=most)
    assert refusal(caught)["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"model": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"model": "\\ud800", "messages": []}', "application/json", 400),
        (b'{"model": "ft-for-travel", "messages": [{"role": "user", "content": "\\ud800"}]}', "application/json", 400),
        (b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}', "application/json", 400),
        (b'{"seed": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * (2**20 + 1), "application/json", 413),
    ],
)
def test_a_bad_body_is_a_refusal(server, body, kind, status):
    with server.http() as http:
        found = http.post(CHAT, content=body, headers={"Content-Type": kind})
        assert found.status_code == status, found.text
        assert found.json()["error"]["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature")
MORE = ("top_p", "seed", "stop", "response_format", "tools", "n", "echo", "user", "logprobs", "tool_choice")


@pytest.fixture(scope="module")
def http(server):
    with server.http() as found:
        yield found


def valid(route: str) -> dict:
    return {"model": NAME, "max_tokens": 2, **({"messages": HELLO} if "chat" in route else {"prompt": "hello"})}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    route=st.sampled_from([CHAT, "/v1/completions"]),
    changes=st.dictionaries(st.sampled_from(KEYS + MORE), JSON, max_size=3),
    messages=st.none() | st.lists(st.fixed_dictionaries({"role": JSON | st.just("user"), "content": JSON}), max_size=3),
    schema=st.none() | st.dictionaries(st.sampled_from(["type", "properties", "enum", "$ref", "pattern"]), JSON),
)
def test_no_body_breaks_it(http, route, changes, messages, schema):
    body = {**valid(route), **changes}
    if messages is not None and "chat" in route:
        body["messages"] = messages
    if schema is not None and "chat" in route:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] > 8:
        body["max_tokens"] = 2
    found = http.post(route, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert found.status_code in (200, 400, 404), found.text
    if found.status_code != 200:
        assert found.json()["error"]["message"]


def test_routes_that_are_not_there(server):
    with server.http() as http:
        for method, path, status in (
            ("GET", "/index.html", 404),
            ("POST", "/", 405),
            ("GET", CHAT, 405),
            ("POST", "/v1/embeddings", 404),
        ):
            found = http.request(method, path)
            assert found.status_code == status
            assert method in found.json()["error"]["message"]
        # no token was named at its start
        assert http.get("/admin/adapters").status_code == 403


# --- who asks


def test_only_a_key_lets_in(release, serving, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"# of the tests\n{OTHER}\n\n{KEY}\n")
    with serving("--folder", release, "--api-keys", keys) as server:
        for key in (KEY, OTHER):
            assert len(server.client(key).models.list().data) == 3
        for key in ("none", KEY[:-1], KEY + "x", "ключ"):
            with server.http() as http:
                found = http.get("/v1/models", headers={"Authorization": f"Bearer {key}".encode()})
                assert found.status_code == 401
                assert found.json()["error"]["code"] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            server.client("no-such-key-at-all").chat.completions.create(model=NAME, messages=HELLO)
        with server.http() as http:
            assert http.get("/v1/models").status_code == 401
            assert http.get("/v1/models", headers={"Authorization": f"Basic {KEY}"}).status_code == 401
            assert http.get("/healthz").text == http.get("/readyz").text == "ok\n"
        assert KEY not in server.said


def test_without_keys_only_this_machines_names_are_answered(server, release, serving, tmp_path):
    port = server.url.rsplit(":", 1)[1]
    with server.http() as http:
        for host, status in (("evil.example", 400), (f"evil.example:{port}", 400), (f"localhost:{port}", 200)):
            assert http.get("/v1/models", headers={"Host": host}).status_code == status, host
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with serving("--folder", release, "--api-keys", keys) as other, other.http() as http:
        headers = {"Host": "a-proxy.example", "Authorization": f"Bearer {KEY}"}
        assert http.get("/v1/models", headers=headers).status_code == 200


# --- how much


def test_who_comes_when_the_queue_is_full_is_told_when_to_come_again(release, serving):
    with serving("--folder", release, "--slots", "1", "--queue", "1") as server, ThreadPoolExecutor(8) as threads:

        def ask(_: int) -> httpx2.Response:
            with server.http() as http:
                return http.post(CHAT, json={"model": NAME, "messages": HELLO, "response_format": LONG})

        found = list(threads.map(ask, range(8)))
    statuses = [one.status_code for one in found]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2
    for one in found:
        if one.status_code == 429:
            assert int(one.headers["Retry-After"]) >= 1
            assert one.json()["error"]["type"] == "rate_limit_error"


def test_a_request_ends_when_its_time_is_over(release, serving):
    with serving("--folder", release, "--slots", "1", "--timeout", "0.1") as server:
        asked = {"model": NAME, "messages": HELLO, "response_format": LONG}
        with pytest.raises(openai.APIError, match="the time for a request is over"):
            list(server.client().chat.completions.create(**asked, stream=True))
        with pytest.raises(openai.InternalServerError) as caught:
            server.client().chat.completions.create(**asked)
        assert (caught.value.status_code, refusal(caught)["code"]) == (504, "timeout")
        server.idle()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_nobody_waits_for_ends(release, serving, stream):
    with serving("--folder", release, "--slots", "1") as server:
        body = json.dumps({"model": NAME, "messages": HELLO, "response_format": LONG, "stream": stream}).encode()
        for ended in range(3):
            with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as wire:
                head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                wire.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                if stream:
                    assert wire.recv(12) == b"HTTP/1.1 200"
                else:
                    while not server.metric("answers_running") and server.metric("answers_total") <= ended:
                        assert not select.select([wire], [], [], 0.001)[0] or server.metric("answers_total") > ended
        # the only slot is free again, long before such an answer would end
        found = server.client().chat.completions.create(model=NAME, messages=HELLO, max_tokens=4)
        assert found.usage.completion_tokens == 4
        server.idle()
        assert server.metric("answer_tokens_total") < 3 * 480
        assert "client_gone" in server.said


# --- its end


def test_sigterm_lets_answers_end_and_takes_no_new_ones(release, serving):
    with serving("--folder", release, "--slots", "1", "--grace", "120") as server, ThreadPoolExecutor(5) as threads:

        def ask(_: int) -> list[str | None]:
            stream = server.client().chat.completions.create(
                model=NAME, messages=HELLO, response_format=LONG, max_tokens=480, stream=True
            )
            return [chunk.choices[0].finish_reason for chunk in stream]

        asked = [threads.submit(ask, number) for number in range(5)]
        while server.metric("answers_running") + server.metric("requests_waiting") < 5:
            assert not any(one.done() for one in asked), "answered before all had come"
        server.process.send_signal(signal.SIGTERM)
        refused = False
        while not refused and not all(one.done() for one in asked):
            try:
                socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))).close()
            except OSError:
                refused = True
        assert refused
        # the one that was being written, and those that waited
        assert [one.result()[-1] for one in asked] == ["length"] * 5
        assert server.process.wait(60) == 0
        assert server.said.endswith("Ended.\n")


def test_sigterm_waits_no_longer_than_it_may(release, serving):
    with serving("--folder", release, "--grace", "0") as server:
        stream = server.client().chat.completions.create(
            model=NAME, messages=HELLO, response_format=LONG, max_tokens=480, stream=True
        )
        next(stream)
        assert server.end() == 0
        with pytest.raises((httpx2.TransportError, openai.APIError)):
            list(stream)
