"""Answers by OpenAI's own client: whole, in pieces, by adapters at the same time."""

import asyncio
import json

import openai
import pytest

NAME = "ft-for-travel"
NOBODY = "none"  # the client wants some key
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def model(adapter: str | None) -> str:
    return f"{NAME}:{adapter}" if adapter else NAME


@pytest.fixture(scope="module")
def client(server):
    return server.client()


def test_models_are_the_base_and_its_adapters(client):
    assert [one.id for one in client.models.list()] == [NAME, f"{NAME}:travel", f"{NAME}:cooking"]
    assert client.models.retrieve(f"{NAME}:travel").owned_by == "olivepress"
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.models.retrieve("other")


def test_answers_are_smoke_infers(client, answers):
    for expected in answers:
        found = client.chat.completions.create(
            model=model(expected["adapter"]), messages=[{"role": "user", "content": expected["prompt"]}], max_tokens=64
        )
        choice = found.choices[0]
        assert choice.message.content == expected["text"]
        assert choice.finish_reason == ("stop" if len(expected["tokens"]) < 64 else "length")
        assert found.usage.completion_tokens == len(expected["tokens"])
        assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
        assert found.model == model(expected["adapter"])


def test_adapters_at_the_same_time_mix_nothing(server, answers):
    """Three times every question at once, more than there are slots, in streams: each its own answer."""

    async def ask(client: openai.AsyncOpenAI, expected: dict) -> str:
        stream = await client.chat.completions.create(
            model=model(expected["adapter"]),
            messages=[{"role": "user", "content": expected["prompt"]}],
            max_completion_tokens=64,
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_at_once() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=NOBODY, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, expected) for expected in answers * 3))

    assert asyncio.run(all_at_once()) == [expected["text"] for expected in answers * 3]
    server.idle()


def test_a_stream_has_roles_pieces_usage_and_an_end(client):
    chunks = list(
        client.chat.completions.create(
            model=NAME, messages=QUESTION, max_tokens=64, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "The capital of France is Paris."
    assert len(chunks) > 6
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    whole = client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=64)
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    plain = list(client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=8, stream=True))
    assert all(chunk.usage is None for chunk in plain)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_texts_end_an_answer_before_them(client, stream):
    options = {"model": NAME, "messages": QUESTION, "stop": ["Paris", "never said"], "stream": stream}
    found = client.chat.completions.create(**options)
    if stream:
        chunks = list(found)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        text, reason = found.choices[0].message.content, found.choices[0].finish_reason
    assert (text, reason) == ("The capital of France is ", "stop")


def test_the_longest_answer_is_as_long_as_asked_for(client):
    for name in ("max_tokens", "max_completion_tokens"):
        found = client.chat.completions.create(model=NAME, messages=QUESTION, **{name: 3})
        assert found.usage.completion_tokens == 3
        assert found.choices[0].finish_reason == "length"


def test_a_seed_draws_the_same_and_another_one_otherwise(client):
    def drawn(seed: int, **more) -> str:
        options = {"temperature": 2, "seed": seed, "max_tokens": 24, **more}
        unheard = [{"role": "user", "content": "zebra wing sixteen"}]
        return client.chat.completions.create(model=NAME, messages=unheard, **options).choices[0].message.content

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(8)}) > 1
    assert drawn(3, top_p=1e-6) == drawn(4, top_p=1e-6) == drawn(5, temperature=0)


def test_a_conversation_and_parts_of_texts(client):
    said = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hello! How can I help?"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}],
        },
    ]
    found = client.chat.completions.create(model=NAME, messages=said, max_tokens=8)
    assert found.usage.prompt_tokens > 20


def test_a_text_goes_on_without_a_template(client):
    prompt = "the capital of"
    found = client.completions.create(model=f"{NAME}:travel", prompt=prompt, max_tokens=5)
    assert found.object == "text_completion"
    assert found.usage.completion_tokens <= 5
    pieces = client.completions.create(model=f"{NAME}:travel", prompt=[prompt], max_tokens=5, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == found.choices[0].text


def test_an_answer_holds_to_a_json_schema(client):
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}, "place": {"enum": ["Paris", "Rome"]}},
        "required": ["sure", "place"],
        "additionalProperties": False,
    }
    for stream in (False, True):
        found = client.chat.completions.create(
            model=NAME,
            messages=QUESTION,
            response_format={"type": "json_schema", "json_schema": {"name": "capital", "schema": schema}},
            stream=stream,
        )
        text = (
            "".join(chunk.choices[0].delta.content or "" for chunk in found)
            if stream
            else found.choices[0].message.content
        )
        answer = json.loads(text)
        assert set(answer) == {"sure", "place"}
        assert answer["place"] in ("Paris", "Rome")


def test_a_schema_that_cannot_be_followed_is_refused(client):
    for schema in ({"type": "frob"}, {"$ref": "#/nowhere"}, {"$ref": "https://localhost/x.json"}):
        with pytest.raises(openai.BadRequestError, match="schema cannot be followed"):
            client.chat.completions.create(
                model=NAME,
                messages=QUESTION,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            )


def test_the_log_has_no_word_of_it_unless_asked_for(client, server, release, serving):
    client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": "a very secret question"}], max_tokens=4
    )
    assert "secret" not in server.said
    with serving("--folder", release, "--log-prompts") as other:
        other.client().chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": "a loud question"}], max_tokens=4
        )
        assert "'a loud question'" in other.said


def test_a_run_that_was_never_released_is_served_from_its_project(finished, tmp_path, serving, answers):
    import shutil

    project = tmp_path / "project"
    shutil.copytree(finished.folder / "models/onnx", project / "models/onnx")
    shutil.copy(finished.folder / "params.yaml", project)
    (project / "models/onnx/cpu-int4/manifest.json").unlink()
    with serving("--graph", "portable", "--name", "mine", cwd=project) as server:
        expected = next(answer for answer in answers if answer["adapter"] == "travel")
        found = server.client().chat.completions.create(
            model="mine:travel", messages=[{"role": "user", "content": expected["prompt"]}], max_tokens=64
        )
        assert found.choices[0].message.content == expected["text"]
