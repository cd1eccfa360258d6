"""Decode with one contender when asked: a process of its own, which uses no processor between its turns.

Arguments: kind, model, threads, and llama.cpp's libraries. Says one line when it is ready. Each line on standard input
is a JSON object, ``prompt`` (tokens of it), ``tokens`` (to decode); the answer is a JSON line: ``tokens_per_s``,
``prefill_ms``, ``peak_mib`` of this process so far.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import models
from olivepress.runtime.graphs import AUTO, PORTABLE

# (tokens of the prompt, tokens to decode) -> (tokens a second, seconds of the prompt)
Run = Callable[[int, int], tuple[float, float]]


def genai(model: Path, threads: int, library: Path | None, *, graph: str = AUTO) -> Run:
    """ONNX Runtime GenAI, by the graph that Olive Press chooses on this machine; another's folder has only one."""
    import onnxruntime_genai as og

    from olivepress.runtime.genai import load_model
    from olivepress.runtime.graphs import choose
    from olivepress.runtime.trust import read_genai_config

    loaded = load_model(model, read_genai_config(model), choose(model, graph))
    run = models.runner(loaded, og.Adapters(loaded), None)
    return lambda prompt, tokens: run(prompt, tokens)[:2]


def llama(model: Path, threads: int, library: Path | None) -> Run:
    """llama.cpp's own runtime, with a cache as long as the first question needs it."""
    from benchmarks.libllama import Llama

    loaded: dict[int, Llama] = {}

    def run(prompt: int, tokens: int) -> tuple[float, float]:
        length = max(1024, prompt + tokens)
        loaded[length] = loaded.get(length) or Llama(library, model, threads, length)
        return loaded[length].decode(models.prompt(prompt).tolist(), tokens, models.WARM_UP)

    return run


def openvino(model: Path, threads: int, library: Path | None) -> Run:
    """OpenVINO GenAI's pipeline, but for the prefix cache, which would read no prompt twice; figures are its own."""
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    settings = {"INFERENCE_NUM_THREADS": threads, "scheduler_config": scheduler}
    pipeline = openvino_genai.LLMPipeline(str(model), "CPU", **settings)

    def run(prompt: int, tokens: int) -> tuple[float, float]:
        ids = openvino.Tensor(models.prompt(prompt)[None].astype("int64"))
        done = pipeline.generate(ids, max_new_tokens=tokens, ignore_eos=True, do_sample=False).perf_metrics
        return 1e3 / done.get_tpot().mean, done.get_ttft().mean / 1e3

    return run


def pytorch(model: Path, threads: int, library: Path | None) -> Run:
    """transformers, greedily, float32, with its own key-value cache."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    @torch.inference_mode()
    def run(prompt: int, tokens: int) -> tuple[float, float]:
        start = time.perf_counter()
        done = loaded(input_ids=torch.tensor(models.prompt(prompt))[None].long(), use_cache=True, logits_to_keep=1)
        token = done.logits[:, -1:].argmax(-1)
        prefill = time.perf_counter() - start
        for number in range(tokens - 1):
            if number == models.WARM_UP:
                start = time.perf_counter()
            done = loaded(input_ids=token, past_key_values=done.past_key_values, use_cache=True)
            token = done.logits[:, -1:].argmax(-1)
        return (tokens - 1 - models.WARM_UP) / (time.perf_counter() - start), prefill

    return run


KINDS: dict[str, Callable[[Path, int, Path | None], Run]] = {
    "genai": genai,
    "genai, portable": partial(genai, graph=PORTABLE),
    "llama": llama,
    "openvino": openvino,
    "pytorch": pytorch,
}


def peak_mib() -> int:
    """Most memory of this process that was resident, files that it maps included."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) >> 10


def main() -> None:
    """Load, say so, and answer until the input ends."""
    kind, model, threads, *library = sys.argv[1:]
    run = KINDS[kind](Path(model), int(threads), Path(library[0]) if library else None)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        rate, prefill = run(question["prompt"], question["tokens"])
        answer = {"tokens_per_s": round(rate, 1), "prefill_ms": round(prefill * 1e3, 1), "peak_mib": peak_mib()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
