"""LangChain's client for OpenAI's API against a server, from its own environment: words, streams, tools, structures."""

import json
import os
import subprocess
import sys

import pytest

LANGCHAIN = "langchain-openai==1.7.4"
ASK = """
import asyncio, json, sys
from typing import Literal
from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url, name, questions = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = ChatOpenAI(model=name, base_url=url, api_key="none", max_tokens=64, max_retries=0)
longer = model.model_copy(update={"max_tokens": 120})

class Weather(BaseModel):
    "The weather of a day"
    day: Literal["monday", "tuesday"]

offered = longer.bind_tools([Weather], tool_choice="any", parallel_tool_calls=False)
called = offered.invoke(questions[0])
result = ToolMessage("dry", tool_call_id=called.tool_calls[0]["id"])
print(json.dumps({
    "whole": [model.invoke(question).content for question in questions],
    "streamed": "".join(chunk.content for chunk in model.stream(questions[0])),
    "together": [answer.content for answer in asyncio.run(model.abatch(questions))],
    "call": called.tool_calls[0]["args"],
    "streamed call": [call["args"] for chunk in offered.stream(questions[0]) for call in chunk.tool_calls],
    "after": model.invoke([("user", questions[0]), called, result]).response_metadata["finish_reason"],
    "structure": longer.with_structured_output(Weather).invoke(questions[0]).day,
    "tokens": called.usage_metadata["output_tokens"],
}))
"""


@pytest.mark.slow
def test_langchain_asks_as_it_asks_openai(server, answers, tmp_path):
    folder = tmp_path / "langchain"
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--target", folder]
    subprocess.run([*pip, LANGCHAIN], check=True)
    expected = [answer for answer in answers if answer["adapter"] is None]
    questions = json.dumps([answer["prompt"] for answer in expected])
    # no traces to LangChain's own server
    environment = {**os.environ, "PYTHONPATH": str(folder), "LANGSMITH_TRACING": "false"}
    command = [sys.executable, "-c", ASK, f"{server.url}/v1", "ft-for-travel", questions]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["whole"] == found["together"] == [answer["text"] for answer in expected]
    assert found["streamed"] == expected[0]["text"]
    assert found["streamed call"] == [found["call"]]
    assert {found["call"]["day"], found["structure"]} <= {"monday", "tuesday"}
    assert found["after"] in ("stop", "length")
    assert 0 < found["tokens"] <= 120
