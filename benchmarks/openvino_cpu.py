"""Tokens a second of the last run's cpu-int4 target and of its model for OpenVINO, in turns, with and without adapter.

python -m benchmarks.openvino_cpu, after `make repro` and `olivepress openvino export`. Each contender is a process of
its own that answers a line at a time, so that no other's threads run meanwhile.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from olivepress.core.machine import processor
from olivepress.openvino.commands import OUT, RUN
from olivepress.openvino.packages import use_packages

ADAPTER, PROMPT, TOKENS, ROUNDS = "travel", 64, 128, 30
ONNX = Path("models/onnx/cpu-int4")
CONTENDERS = ("onnx", "onnx portable", "openvino performance", "openvino accuracy")

Run = Callable[[str | None], tuple[float, float]]  # adapter -> (tokens a second, milliseconds to the first)


def prompt() -> list[int]:
    """Always the same random tokens."""
    import numpy as np

    return np.random.default_rng(0).integers(16, 272, PROMPT).tolist()


def onnx(graph: str) -> Run:
    import onnxruntime_genai as og

    from olivepress.runtime.genai import load_model
    from olivepress.runtime.graphs import choose
    from olivepress.runtime.trust import read_genai_config

    folder = ONNX / "model"
    model = load_model(folder, read_genai_config(folder), choose(folder, graph))
    adapters = og.Adapters(model)
    adapters.load(str(ONNX / f"adapters/{ADAPTER}.onnx_adapter"), ADAPTER)

    def run(adapter: str | None) -> tuple[float, float]:
        params = og.GeneratorParams(model)
        length = PROMPT + TOKENS
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = og.Generator(model, params)
        if adapter:
            generator.set_active_adapter(adapters, adapter)
        start = time.perf_counter()
        generator.append_tokens(prompt())
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(TOKENS - 1):
            generator.generate_next_token()
        return (TOKENS - 1) / (time.perf_counter() - first), 1e3 * (first - start)

    return run


def openvino(hint: str) -> Run:
    use_packages(RUN)
    from olivepress.openvino.adapter import SUFFIX
    from olivepress.openvino.runtime import OpenVinoModel

    model = OpenVinoModel(OUT / "model", {ADAPTER: OUT / f"adapters/{ADAPTER}{SUFFIX}"}, hint=hint)

    def run(adapter: str | None) -> tuple[float, float]:
        answer = model.answer_to_tokens(prompt(), adapter, max_new_tokens=TOKENS, to_the_end=True)
        return answer.tokens_per_second, answer.first_ms

    return run


def work(contender: str) -> None:
    """Answer each line of standard input, an adapter's name or none."""
    kind, _, setting = contender.partition(" ")
    run = onnx(setting or "auto") if kind == "onnx" else openvino(setting)
    for line in sys.stdin:
        print(json.dumps(run(line.strip() or None)), flush=True)


def main() -> None:
    """One table: the best round, which other work disturbed least, and the median."""
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.openvino_cpu", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in CONTENDERS
    }
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for name, worker in workers.items():
            for adapter in ("", ADAPTER):
                worker.stdin.write(f"{adapter}\n")
                worker.stdin.flush()
                found.setdefault((name, adapter), []).append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    print(f"{processor()}; {PROMPT} tokens, then {TOKENS}; {ROUNDS} rounds\n")
    print("| | tokens/s | with an adapter | first token, ms | with an adapter |\n|---|---:|---:|---:|---:|")
    for name in CONTENDERS:
        cells = []
        for place, best in ((0, max), (1, min)):
            for adapter in ("", ADAPTER):
                values = [one[place] for one in found[name, adapter][1:]]
                cells.append(f"{best(values):,.{place}f} ({median(values):,.{place}f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1])
    else:
        main()
