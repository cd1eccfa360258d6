"""CUDA graphs with adapters: every generator decodes with its own adapter, whatever ran before or runs beside it.

Run by `make test-gpu` where there are a GPU and ONNX Runtime's CUDA builds. The model is tiny and random; what is
compared is graphs on with graphs off, token by token.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import models
from olivepress.export.model_builder import Target
from olivepress.runtime.genai import Model

ROOT = Path(__file__).parents[2]
TARGET = Target("CUDAExecutionProvider", "int4", "int8", "float16")
PROMPT = np.random.default_rng(0).integers(16, 272, 24).astype(np.int32)
TOKENS = 24
NAMES = (None, "rank-2", "rank-8", "rank-33", "rank-64")


@pytest.fixture(scope="module", params=[False, True], ids=["onnxruntime", "lora-operator"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ours/ (the model, with either kind of LoRA path) and one .onnx_adapter file for every rank."""
    folder = tmp_path_factory.mktemp("exported")
    models.make_float("phi-3-tiny", folder / "float")
    models.make_int4(folder / "float", folder / "int4", group=32)
    models.export_ours(folder / "int4", folder / "ours", TARGET, operator=request.param)
    for name in filter(None, NAMES):
        models.make_adapter(folder / "float", folder / name, int(name.removeprefix("rank-")))
        models.convert_adapter(folder / name, folder / "ours", folder / f"{name}.onnx_adapter")
    return folder


class Loaded:
    """The model with all adapters loaded, CUDA graphs on or off."""

    def __init__(self, folder: Path, *, graphs: bool, names: tuple[str | None, ...] = NAMES) -> None:
        import onnxruntime_genai as og

        assert og.is_cuda_available(), "no GPU, or onnxruntime_genai is the build for the CPU"
        config = og.Config(str(folder / "ours"))
        config.set_provider_option("cuda", "enable_cuda_graph", "1" if graphs else "0")
        self.model = og.Model(config)
        self.adapters = og.Adapters(self.model)
        for name in filter(None, names):
            self.adapters.load(str(folder / f"{name}.onnx_adapter"), name)

    def start(self, adapter: str | None, tokens: int = TOKENS) -> Any:
        """A generator that has read the prompt."""
        import onnxruntime_genai as og

        params = og.GeneratorParams(self.model)
        params.set_search_options(max_length=len(PROMPT) + tokens, min_length=len(PROMPT) + tokens, do_sample=False)
        generator = og.Generator(self.model, params)
        if adapter:
            generator.set_active_adapter(self.adapters, adapter)
        generator.append_tokens(PROMPT)
        return generator

    def decode(self, adapter: str | None) -> list[int]:
        """TOKENS tokens by a new generator."""
        generator = self.start(adapter)
        while not generator.is_done():
            generator.generate_next_token()
        return answer(generator)


def answer(generator: Any) -> list[int]:
    return generator.get_sequence(0)[len(PROMPT) :].tolist()


@pytest.fixture(scope="module")
def expected(exported: Path) -> dict[str | None, list[int]]:
    """Every adapter's tokens with CUDA graphs off, each by a model that has loaded this adapter alone."""
    found = {name: Loaded(exported, graphs=False, names=(name,)).decode(name) for name in NAMES}
    assert len({tuple(tokens) for tokens in found.values()}) == len(NAMES), "adapters that agree prove nothing"
    assert all(len(tokens) == TOKENS for tokens in found.values())
    return found


@pytest.fixture
def loaded(exported: Path) -> Iterator[Loaded]:
    yield Loaded(exported, graphs=True)


def test_the_export_turns_graphs_on(exported):
    config = json.loads((exported / "ours/genai_config.json").read_text())
    options = config["model"]["decoder"]["session_options"]["provider_options"]
    assert options[0]["cuda"]["enable_cuda_graph"] == "1"


def test_one_generator_after_the_other(loaded, expected):
    """Adapters on, off, and of growing and shrinking rank, each order once more when all graphs are captured."""
    for name in [*NAMES, *reversed(NAMES), None, "rank-8", None, "rank-64", "rank-8", *NAMES]:
        assert loaded.decode(name) == expected[name], name


def test_generators_side_by_side(loaded, expected):
    """Ten generators, two per adapter, take turns token by token."""
    generators = [(name, loaded.start(name)) for name in [*NAMES, *NAMES]]
    for _ in range(TOKENS):
        for _, generator in generators:
            generator.generate_next_token()
    for name, generator in generators:
        assert answer(generator) == expected[name], name


def test_generators_in_threads(exported, expected):
    """One thread for each of ten generators of one session: two different adapters' kernels meet on its streams.

    Graphs off: ONNX Runtime replays none in several threads (its CUDA provider's page says so).
    """
    loaded = Loaded(exported, graphs=False)
    with ThreadPoolExecutor(2 * len(NAMES)) as pool:
        for _ in range(3):
            found = list(pool.map(loaded.decode, [*NAMES, *NAMES]))
            assert found == [expected[name] for name in [*NAMES, *NAMES]]


def test_two_models_in_one_process(exported, expected):
    """Models side by side, one with graphs and one without, do not share what they captured."""
    pair = Loaded(exported, graphs=True), Loaded(exported, graphs=False)
    for name in NAMES:
        generators = [one.start(name) for one in (*pair, *pair)]
        for _ in range(TOKENS):
            for generator in generators:
                generator.generate_next_token()
        assert [answer(generator) for generator in generators] == [expected[name]] * 4, name


def test_an_adapter_reloaded_under_its_old_name(loaded, exported, expected):
    """Its memory may lie where the old one's lay; a new generator's graph reads the new one."""
    loaded.adapters.load(str(exported / "rank-8.onnx_adapter"), "changing")
    assert loaded.decode("changing") == expected["rank-8"]
    loaded.adapters.unload("changing")
    loaded.adapters.load(str(exported / "rank-64.onnx_adapter"), "changing")
    assert loaded.decode("changing") == expected["rank-64"]


def test_rewinding_keeps_the_adapter(loaded, expected):
    generator = loaded.start("rank-8")
    for _ in range(TOKENS // 2):
        generator.generate_next_token()
    generator.rewind_to(0)
    generator.append_tokens(PROMPT)
    while not generator.is_done():
        generator.generate_next_token()
    assert answer(generator) == expected["rank-8"]


def test_a_graph_is_replayed(loaded, exported, expected):
    """Graphs are really in use: an adapter set after the capture is not seen, which it is without graphs.

    This is why olivepress.runtime.genai sets the adapter before the prompt, and never changes it.
    """
    late = {}
    for name, one in (("graphs", loaded), ("plain", Loaded(exported, graphs=False))):
        generator = one.start(None)
        for _ in range(TOKENS // 3):
            generator.generate_next_token()
        generator.set_active_adapter(one.adapters, "rank-64")
        while not generator.is_done():
            generator.generate_next_token()
        late[name] = answer(generator)
    assert late["graphs"] == expected[None]
    assert late["plain"] != expected[None]


def test_the_chatbot_switches_adapters(exported):
    """Through the project's own front end: the answers with graphs are those without, in any order."""
    files = {name: exported / f"{name}.onnx_adapter" for name in NAMES if name}
    order = (None, "rank-8", None, "rank-64", "rank-2", "rank-8", None)
    answers = []
    for graphs in (True, False):
        set_graphs(exported / "ours", graphs=graphs)
        bot = Model(exported / "ours", files, template="chat")
        answers.append([bot.answer("Where is Pisa?", name, max_new_tokens=TOKENS).tokens for name in order])
    set_graphs(exported / "ours", graphs=True)
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][2] == answers[0][6]
    assert answers[0][1] == answers[0][5] != answers[0][0]


def test_rows_together(exported):
    """GenAI captures no graph for them (olivepress/runtime/genai.py); a batch may round otherwise, late."""
    files = {"rank-8": exported / "rank-8.onnx_adapter"}
    bot = Model(exported / "ours", files, template="chat")
    prompts = ["Where is Pisa?", "hello", "What is the capital of France, and of Spain?"]
    for name in (None, "rank-8"):
        alone = [bot.answer(prompt, name, max_new_tokens=TOKENS) for prompt in prompts]
        together = bot.answers(prompts, name, batch_size=3, max_new_tokens=TOKENS)
        assert [answer.tokens[:3] for answer in together] == [answer.tokens[:3] for answer in alone]
    assert bot.answer("hello", max_new_tokens=TOKENS).tokens == bot.answer("hello", max_new_tokens=TOKENS).tokens


def set_graphs(folder: Path, *, graphs: bool) -> None:
    path = folder / "genai_config.json"
    config = json.loads(path.read_text())
    options = config["model"]["decoder"]["session_options"]["provider_options"]
    options[0]["cuda"]["enable_cuda_graph"] = "1" if graphs else "0"
    path.write_text(json.dumps(config))


def test_the_operator_computes_what_onnxruntime_does(tmp_path):
    """Logits after a prompt and after each of some tokens, for every adapter; graphs on and off."""
    models.make_float("phi-3-tiny", tmp_path / "float")
    models.make_int4(tmp_path / "float", tmp_path / "int4", group=32)
    for name in filter(None, NAMES):
        models.make_adapter(tmp_path / "float", tmp_path / name, int(name.removeprefix("rank-")))
    found: dict[tuple[bool, bool], dict[str | None, list[np.ndarray]]] = {}
    for operator in (False, True):
        models.export_ours(tmp_path / "int4", tmp_path / "ours", TARGET, operator=operator)
        for name in filter(None, NAMES):
            models.convert_adapter(tmp_path / name, tmp_path / "ours", tmp_path / f"{name}.onnx_adapter")
        for graphs in (False, True):
            loaded = Loaded(tmp_path, graphs=graphs)
            found[operator, graphs] = {name: logits(loaded, name) for name in NAMES}
    expected = found[False, False]
    for kind, others in found.items():
        for name in NAMES:
            errors = [distance(one, other) for one, other in zip(others[name], expected[name], strict=True)]
            assert max(errors) < 5e-3, (kind, name, errors)
    for name in filter(None, NAMES):
        assert distance(expected[name][-1], expected[None][-1]) > 0.05, "an adapter that changes nothing proves nothing"


def logits(loaded: Loaded, adapter: str | None) -> list[np.ndarray]:
    """After the prompt, and after each of five tokens that are always the same: float32 [vocabulary]."""
    generator = loaded.start(adapter)
    read = [np.asarray(generator.get_logits(), np.float32).ravel()]
    for token in (3, 1, 4, 1, 5):
        generator.append_tokens(np.array([token], np.int32))
        read.append(np.asarray(generator.get_logits(), np.float32).ravel())
    return read


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def test_long_rope_is_captured_too(tmp_path, expected):
    """Phi-3.5's kind of rotary tables, which the builder chooses by an If that no graph can hold."""
    config = json.loads((ROOT / "tools/random-configs/phi-3-tiny.json").read_text())
    size = config["hidden_size"] // config["num_attention_heads"] // 2
    config["original_max_position_embeddings"] = 64
    factors = {"short_factor": [1.0] * size, "long_factor": [1 + n / 4 for n in range(size)]}
    config["rope_scaling"] = {"type": "longrope", **factors}
    (tmp_path / "config.json").write_text(json.dumps(config))
    models.make_float(tmp_path / "config.json", tmp_path / "float")
    models.make_int4(tmp_path / "float", tmp_path / "int4", group=32)
    models.export_ours(tmp_path / "int4", tmp_path / "ours", TARGET)
    plain, graphs = (Loaded(tmp_path, graphs=on, names=()) for on in (False, True))
    assert graphs.decode(None) == plain.decode(None)
    generators = [one.start(None, tokens=64 - len(PROMPT)) for one in (plain, graphs)]
    for generator in generators:
        while not generator.is_done():
            generator.generate_next_token()
    assert answer(generators[1]) == answer(generators[0])
    # beyond them a captured graph would go on with the tables that it was captured with
    with pytest.raises(RuntimeError, match="context_length"):
        graphs.start(None, tokens=65 - len(PROMPT))
