"""`olivepress serve` on a GPU: GenAI's tokens, rows that come and go, adapters, keys and values on the card."""

import queue
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import models
from olivepress.core.errors import PressError
from olivepress.export.model_builder import Target
from olivepress.runtime.genai import Model
from olivepress.runtime.sampling import StopText
from olivepress.serve.adapters import Adapters
from olivepress.serve.cache import KeyValueCache
from olivepress.serve.chooser import Chooser
from olivepress.serve.engine import End, Engine, Job
from olivepress.serve.memory import CudaMemory, HostMemory
from olivepress.serve.served import Served, open_run

TARGET = Target("CUDAExecutionProvider", "int4", "int8", "float16")
NAMES = (None, "rank-8", "rank-64")
LENGTHS = (5, 130, 60, 300, 9, 127, 40)
STEPS = 24
QUESTIONS = ("Where is Pisa?", "hello", "What is the capital of France, and of Spain?", "Why?", "Name three cities.")


@pytest.fixture(scope="module", params=[False, True], ids=["onnxruntime", "lora-operator"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ and adapters/, as auto-opt and convert-adapter leave them."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "adapters").mkdir()
    models.make_float("phi-3-tiny", folder / "float")
    models.make_int4(folder / "float", folder / "int4", group=32)
    models.export_ours(folder / "int4", folder / "model", TARGET, operator=request.param)
    for name in filter(None, NAMES):
        models.make_adapter(folder / "float", folder / name, int(name.removeprefix("rank-")))
        models.convert_adapter(folder / name, folder / "model", folder / f"adapters/{name}.onnx_adapter")
    return folder


@pytest.fixture(scope="module")
def served(run: Path) -> Served:
    return open_run(run, "tiny", "chat")


@pytest.fixture(scope="module")
def adapters(served: Served) -> Adapters:
    return Adapters(served.decoder, served.adapters, None)


def test_the_engines_tokens_are_genais(run, served, adapters):
    """Five questions with each adapter, all at once, by three slots; GenAI's by captured graphs, one at a time."""
    model = Model(run / "model", served.adapters, template="chat")
    engine = Engine(served.decoder, served.wording.ends, slots=3, queue=64)
    engine.start()
    jobs = []
    for name in NAMES:
        for question in QUESTIONS:
            jobs.append(
                Job(
                    ids=served.wording.chat([{"role": "user", "content": question}]),
                    most=STEPS,
                    adapter=adapters.get(name) if name else None,
                    chooser=Chooser(served.search),
                    stream=served.wording.stream(),
                    stop=StopText(()),
                    deadline=time.monotonic() + 300,
                    emit=queue.Queue().put,
                )
            )
            engine.submit(jobs[-1])
    for job in jobs:
        while not isinstance(job.emit.__self__.get(timeout=60), End):
            pass
    engine.stop()
    expected = [model.answer(question, name, max_new_tokens=STEPS).tokens for name in NAMES for question in QUESTIONS]
    same = [job.tokens == tokens for job, tokens in zip(jobs, expected, strict=True)]
    # rows round otherwise beside others: random weights have likely tokens that are nearly equal
    assert np.mean(same) > 0.8, same
    assert all(job.tokens[:3] == tokens[:3] for job, tokens in zip(jobs, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_come_and_go(served, adapters, name):
    """Each row's logits are nearly those that it has alone, also after one has left from among them."""
    adapter = adapters.get(name) if name else None
    random = np.random.default_rng(0)
    prompts = [random.integers(16, 272, length).tolist() for length in LENGTHS]
    tokens = random.integers(16, 272, (STEPS, len(prompts)))
    expected = []
    for row, prompt in enumerate(prompts):
        cache = served.decoder.new_cache()
        found = [served.decoder.prompt(cache, prompt, len(prompt) + STEPS, adapter)]
        found += [served.decoder.step(cache, [int(token)], adapter)[0] for token in tokens[:, row]]
        expected.append(found)
    cache = served.decoder.new_cache()
    rows = list(range(len(prompts)))
    for row, prompt in enumerate(prompts):  # a longer row than before: the others are moved
        logits = served.decoder.prompt(cache, prompt, len(prompt) + STEPS, adapter)
        assert distance(logits, expected[row][0]) < 5e-3
    for step in range(STEPS):
        if step == STEPS // 2:
            cache.remove(2)
            rows[2] = rows.pop()
        found = served.decoder.step(cache, [int(tokens[step, row]) for row in rows], adapter)
        for row, logits in zip(rows, found, strict=True):
            assert distance(logits, expected[row][step + 1]) < 5e-3, (row, step)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_the_cards_memory_holds_what_the_hosts_does():
    """Rows that are added, grown and taken out, in both at once."""
    rng = np.random.default_rng(0)
    memories = HostMemory(), CudaMemory()
    caches = [KeyValueCache({"past": (3, 8)}, np.dtype(np.float16), memory) for memory in memories]
    for tokens in (10, 300, 20, 600, 5):
        for cache in caches:
            cache.lengths[cache.add(tokens)] = tokens
        host, card = (cache._buffers["past"] for cache in caches)
        values = rng.normal(size=host.shape).astype(np.float16)
        host.owner[:] = values
        card.owner.update_inplace(values)
    for row in (1, 3, 0):
        for cache in caches:
            cache.remove(row)
    for cache in caches:
        cache.add(1000)
    host, card = (cache._buffers["past"] for cache in caches)
    assert caches[0].lengths == caches[1].lengths
    for row, length in enumerate(caches[0].lengths):
        assert np.array_equal(host.owner[row, :, :length], card.owner.numpy()[row, :, :length])
    with pytest.raises(MemoryError):
        CudaMemory().new((1 << 20, 1 << 10, 1 << 10, 128), np.dtype(np.float16))


def test_an_adapter_of_another_model_is_refused(served, run, tmp_path):
    with pytest.raises(PressError, match="is no adapter of this model"):
        served.decoder.load_adapter("broken", run / "model/model.onnx", 1, "")
