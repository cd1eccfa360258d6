"""Decode with llama.cpp when asked; run by the Python that has llama-cpp-python, by benchmarks/decode_cpu.py.

Arguments: model.gguf, number of threads, and the adapter's .gguf if there is one. Each line on standard input is a JSON
object with ``prompt`` (token ids) and ``tokens`` (how many to decode) and ``warm_up`` (how many of them not to time);
the answer is a JSON line with ``tokens_per_s``, ``prefill_s`` and ``answer``. Goes through the C functions, since the
binding's own loop copies logits and would be timed with them.
"""

import ctypes
import json
import logging
import sys
import time

import llama_cpp
import numpy as np


def main() -> None:
    """Load, say that it is ready, answer until the input ends."""
    path, threads, adapter = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"{path}: llama.cpp does not load it")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    contexts: dict[int, object] = {}
    for line in sys.stdin:
        question = json.loads(line)
        length = max(512, len(question["prompt"]) + question["tokens"])
        if length not in contexts:
            contexts[length] = new_context(model, length, threads, adapter)
        print(json.dumps(decode(contexts[length], vocabulary, **question)), flush=True)


def new_context(model: object, length: int, threads: int, adapter: list[str]) -> object:
    """A cache for so many tokens, a prompt of all of them at once, with the adapter's file if there is one."""
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = length
    settings.n_batch = max(settings.n_batch, length)
    settings.n_threads = settings.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, settings)
    for file in adapter:
        lora = llama_cpp.llama_adapter_lora_init(model, file.encode())
        adapters, scales = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora), (ctypes.c_float * 1)(1.0)
        if not lora or llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales):
            raise SystemExit(f"{file}: llama.cpp does not load it")
    return context


def decode(context: object, vocabulary: int, prompt: list[int], tokens: int, warm_up: int) -> dict[str, object]:
    """Greedy decoding from an empty cache, whatever the tokens are."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)

    def step(ids: list[int]) -> int:
        array = (llama_cpp.llama_token * len(ids))(*ids)  # the batch points into it
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(ids))):
            raise SystemExit("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax())

    start = time.perf_counter()
    answer = [step(prompt)]
    prefill = time.perf_counter() - start
    while len(answer) < tokens:
        if len(answer) == warm_up:
            start = time.perf_counter()
        answer.append(step(answer[-1:]))
    rate = (tokens - warm_up) / (time.perf_counter() - start)
    return {"tokens_per_s": rate, "prefill_s": prefill, "answer": answer}


if __name__ == "__main__":
    main()
