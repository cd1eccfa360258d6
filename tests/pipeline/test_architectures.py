"""Every architecture, tiny and random, quantized, fine-tuned, exported: the graph computes what PyTorch computes.

Random weights hide nothing: a bias, a norm or a scale that is lost, or a projection at the wrong place, moves the
logits by far more than the bound. What cannot be seen here is quality.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_models import (
    ASSISTANT,
    END,
    EXTRAS,
    GROUP,
    LAYERS,
    USER,
    awq_integers,
    genai_greedy,
    graph_integers,
    make_checkpoint,
    pack_like,
    random_blocks,
    relative_error,
    torch_greedy,
    torch_logits,
)

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.core.prepared import Prepared
from olivepress.core.tokenizer import load_tokenizer
from olivepress.export.adapter import convert
from olivepress.export.model_builder import Target, export
from olivepress.export.operator_library import copy_libraries
from olivepress.export.passes.decoder_layers import expand
from olivepress.export.passes.lora_inputs import PROJECTION
from olivepress.export.projections import read_projections
from olivepress.export.session_options import set_session_options
from olivepress.export.surgery import transform
from olivepress.finetune.lora import LoraSettings, finetune
from olivepress.modeling.dequantize import load_model
from olivepress.quantize.awq import quantize_awq
from olivepress.quantize.olive import quantize_olive
from olivepress.runtime.genai import Model
from olivepress.runtime.logits import OnnxLogits

# Head and embedding stay float, activations float32: what is left to differ is the order of summation.
TARGET = Target("CPUExecutionProvider", "int4", "float", "float32")
BOUND = 2e-3
NEW_TOKENS = 12
QUESTION = 'Where is Pisa — "now"?'
IDS = random_blocks(1, 24, seed=1)[0]
TEXTS = [
    f"{USER}\n{question}{END}\n{ASSISTANT}\n{answer}{END}\n"
    for question, answer in (("Where is Pisa?", "In Italy."), ("And Nara?", "In Japan."), ("Oslo?", "In Norway."))
]


def training_rows(folder: Path) -> list[Prepared]:
    """TEXTS by the tokenizer in ``folder``; every token counts."""
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    return [Prepared(ids, [(0, len(ids))]) for ids in tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Pressed:
    """One architecture's base, quantized and exported folders; adapters are trained when first asked for."""

    folder: Path
    adapters: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def quantized(self) -> Path:
        return self.folder / "quantized"

    @property
    def onnx(self) -> Path:
        return self.folder / "onnx"

    def press(self, algorithm: str, *, zero_point: bool = True) -> None:
        """Quantize the base and export it with open LoRA inputs."""
        common = {
            "blocks": random_blocks(2, 64),
            "group_size": GROUP,
            "zero_point": zero_point,
            "trust_remote_code": False,
        }
        if algorithm == "awq":
            quantize_awq(self.base, self.quantized, device="cpu", **common)
        else:
            quantize_olive(self.base, self.quantized, algorithm=algorithm, bits=4, **common)
        self.export(self.onnx)

    def export(self, out: Path, lora_inputs: str = "all", *, operator: bool = False, embedding: str = "float") -> int:
        """As stages/auto_opt.py does it; returns the number of projections with LoRA inputs."""
        export(self.quantized, out, TARGET)
        operators = TARGET.provider if operator else None
        graph = transform(out / MODEL, lora_inputs, embedding=embedding, operators=operators)
        if operator:
            copy_libraries(out)
            set_session_options(out, TARGET.provider, cuda_graph=False)
        return graph.projections

    def adapter(self, targets: str) -> tuple[Path, Path]:
        """The PEFT folder and the .onnx_adapter file of an adapter on ``targets``, trained once."""
        if targets not in self.adapters:
            peft, file = self.folder / f"peft-{targets}", self.folder / f"{targets}.onnx_adapter"
            settings = LoraSettings(
                rank=8,
                alpha=16,
                dropout=0,
                target_modules=targets,
                steps=4,
                batch_size=3,
                learning_rate=0.02,
                sequence_length=64,
                eval_steps=4,
                gradient_checkpointing=False,
                seed=0,
                dtype="float32",
                device="cpu",
                processes=1,
                parallel="none",
            )
            rows = training_rows(self.quantized)
            finetune(self.quantized, rows, rows[:1], peft, settings)
            convert(peft, self.onnx, file)
            self.adapters[targets] = peft, file
        return self.adapters[targets]

    def reference(self, peft: Path | None = None) -> torch.nn.Module:
        """PyTorch's model of the quantized checkpoint, with an adapter or without."""
        from peft import PeftModel

        model = load_model(self.quantized, dtype=torch.float32)
        return PeftModel.from_pretrained(model, peft).eval() if peft else model


@pytest.fixture(scope="module")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pressed]:
    """Architecture -> Pressed by AWQ, made once."""
    made: dict[str, Pressed] = {}

    def get(architecture: str) -> Pressed:
        if architecture not in made:
            subject = Pressed(tmp_path_factory.mktemp(architecture))
            make_checkpoint(architecture, subject.base)
            subject.press("awq")
            made[architecture] = subject
        return made[architecture]

    return get


@pytest.mark.parametrize("architecture", EXTRAS)
def test_the_graph_holds_the_checkpoints_own_integers(pressed, architecture):
    """AWQ, group size 32: every weight and zero point of every MatMulNBits is equal, and every scale."""
    subject = pressed(architecture)
    modules = awq_integers(subject.quantized)
    nodes = graph_integers(subject.onnx / MODEL)
    for name, found in nodes.items():
        match = PROJECTION.fullmatch(name)
        assert match, f"{name} is no projection: what else was quantized?"
        expected = pack_like(modules, int(match["layer"]), match["name"])
        for what, ours, theirs in zip(("weights", "zero points", "scales"), found, expected, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_array_equal(ours, theirs, f"{name}: {what}")
    weights = sum(part[0].size for part in modules.values())
    assert sum(part[0].size for part in nodes.values()) == weights, "each is in the graph once"


@pytest.mark.parametrize("architecture", EXTRAS)
def test_a_quantized_embedding_costs_what_rounding_costs(pressed, architecture, tmp_path):
    """Of a table of random numbers int8 leaves out one part in a hundred, whatever scales or norms come after it."""
    subject = pressed(architecture)
    assert subject.export(tmp_path / "onnx", embedding="int8") == len(read_projections(subject.onnx / MODEL))
    rounded, exact = (OnnxLogits(folder, {}, TARGET.provider)(IDS) for folder in (tmp_path / "onnx", subject.onnx))
    assert 0 < relative_error(rounded, exact) < 0.03
    kinds = [node.op_type for node in onnx.load(tmp_path / "onnx" / MODEL, load_external_data=False).graph.node]
    assert kinds.count("GatherBlockQuantized") == 1


@pytest.mark.parametrize("architecture", ["phi3", "qwen2"])
def test_inputs_for_attention_alone(pressed, architecture, tmp_path):
    """Half of the inputs: no adapter and an adapter on attention compute the same, to the bit; another is refused."""
    subject = pressed(architecture)
    half = tmp_path / "onnx"
    count = subject.export(half, "attention")
    assert {name for _, name in read_projections(half / MODEL)} <= {"qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj"}
    assert count == len(read_projections(half / MODEL)) < len(read_projections(subject.onnx / MODEL))
    peft, file = subject.adapter("default")
    convert(peft, half, tmp_path / "half.onnx_adapter")
    whole, part = (
        OnnxLogits(folder, {"adapter": path}, TARGET.provider)
        for folder, path in ((subject.onnx, file), (half, tmp_path / "half.onnx_adapter"))
    )
    np.testing.assert_array_equal(part(IDS), whole(IDS))
    np.testing.assert_array_equal(part(IDS, "adapter"), whole(IDS, "adapter"))
    assert relative_error(part(IDS, "adapter"), part(IDS)) > BOUND
    with pytest.raises(PressError, match="lora_inputs: attention"):
        convert(subject.adapter("all-linear")[0], half, tmp_path / "no.onnx_adapter")


@pytest.mark.parametrize("architecture", EXTRAS)
def test_the_native_operators_compute_the_same(pressed, architecture, tmp_path):
    """No adapter: to float32's rounding. An adapter: to that of float16, in which they read A and B."""
    subject = pressed(architecture)
    native = tmp_path / "onnx"
    assert subject.export(native, operator=True) == len(read_projections(subject.onnx / MODEL))
    assert read_projections(native / MODEL).keys() == read_projections(subject.onnx / MODEL).keys()
    peft, file = subject.adapter("all-linear")
    convert(peft, native, tmp_path / "native.onnx_adapter")
    assert (tmp_path / "native.onnx_adapter").stat().st_size < 0.6 * file.stat().st_size
    plain, own = (
        OnnxLogits(folder, {"adapter": path}, TARGET.provider)
        for folder, path in ((subject.onnx, file), (native, tmp_path / "native.onnx_adapter"))
    )
    assert relative_error(own(IDS), plain(IDS)) < 1e-5
    assert relative_error(own(IDS, "adapter"), plain(IDS, "adapter")) < BOUND
    assert relative_error(own(IDS, "adapter"), own(IDS)) > 10 * BOUND
    graph = onnx.load(native / MODEL, load_external_data=False)
    expand(graph)
    kinds = [node.op_type for node in graph.graph.node]
    fused = {name: kinds.count(name) for name in ("LoraAdd", "LoraAddGate", "LoraAddNorm")}
    assert fused["LoraAddGate"] == LAYERS and fused["LoraAddNorm"] == 2 * LAYERS, fused
    assert genai_greedy(native, tmp_path / "native.onnx_adapter", IDS, NEW_TOKENS) == torch_greedy(
        subject.reference(peft), IDS, NEW_TOKENS
    )


@pytest.mark.parametrize("targets", ["default", "all-linear"])
@pytest.mark.parametrize("architecture", EXTRAS)
def test_logits_are_pytorchs(pressed, architecture, targets, record_property):
    """AWQ base, LoRA of rank 8 trained for 4 steps; 24 random tokens, float32 activations, float head."""
    subject = pressed(architecture)
    peft, file = subject.adapter(targets)
    onnx = OnnxLogits(subject.onnx, {"adapter": file}, TARGET.provider)
    plain, tuned = (torch_logits(subject.reference(adapter), IDS) for adapter in (None, peft))
    errors = {
        "without": relative_error(onnx(IDS), plain),
        "with": relative_error(onnx(IDS, "adapter"), tuned),
        "change": relative_error(tuned, plain),
    }
    for name, value in errors.items():
        record_property(name, f"{value:.2g}")
    print(architecture, targets, errors)
    assert errors["without"] <= BOUND
    assert errors["with"] <= BOUND
    assert errors["change"] > 1e-2, "an adapter that changes nothing proves nothing"
    assert relative_error(onnx(IDS), plain) == errors["without"], "the adapter stays out when it is not asked for"


@pytest.mark.parametrize("targets", ["default", "all-linear"])
@pytest.mark.parametrize("architecture", EXTRAS)
def test_genai_decodes_what_pytorch_decodes(pressed, architecture, targets):
    """12 tokens, greedy, after 24 random ones: GenAI with its key/value cache, PyTorch without one.

    That the adapter changes the logits is the test before; the likeliest tokens may be the same.
    """
    subject = pressed(architecture)
    peft, file = subject.adapter(targets)
    plain, tuned = (torch_greedy(subject.reference(adapter), IDS, NEW_TOKENS) for adapter in (None, peft))
    print(architecture, targets, plain, tuned)
    assert genai_greedy(subject.onnx, None, IDS, NEW_TOKENS) == plain
    assert genai_greedy(subject.onnx, file, IDS, NEW_TOKENS) == tuned
    assert len(plain) == len(tuned) == NEW_TOKENS, "no end token cut them short"


@pytest.mark.parametrize("architecture", EXTRAS)
def test_the_chatbot_reads_and_answers_as_transformers_does(pressed, architecture):
    """The checkpoint's tokenizer and chat template through GenAI; "all-linear" adapter, at most 12 tokens."""
    import transformers

    subject = pressed(architecture)
    peft, file = subject.adapter("all-linear")
    chatbot = Model(subject.onnx, {"adapter": file}, template="chat")
    tokenizer = transformers.AutoTokenizer.from_pretrained(subject.base)
    message = [{"role": "user", "content": QUESTION}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert chatbot.tokenizer.encode(chatbot.render(QUESTION)).tolist() == ids
    for name, adapter in ((None, None), ("adapter", peft)):
        expected = torch_greedy(subject.reference(adapter), ids, NEW_TOKENS)
        answer = chatbot.answer(QUESTION, name, max_new_tokens=NEW_TOKENS)
        print(architecture, name, answer.tokens, answer.text)
        assert answer.tokens == expected
        assert answer.finite


@pytest.mark.parametrize(
    ("algorithm", "zero_point"),
    [("rtn", True), ("rtn", False), ("gptq", True), ("kquant", True), ("awq", False)],
    ids=["rtn", "rtn-symmetric", "gptq", "kquant", "awq-symmetric"],
)
def test_other_quantizers_export_what_they_wrote(tmp_path, algorithm, zero_point):
    """Llama, group size 32, 4 bits: logits of the graph are those of the dequantized checkpoint."""
    subject = Pressed(tmp_path)
    make_checkpoint("llama", subject.base)
    subject.press(algorithm, zero_point=zero_point)
    logits = OnnxLogits(subject.onnx, {}, TARGET.provider)(IDS)
    expected = torch_logits(subject.reference(), IDS)
    lost = relative_error(expected, torch_logits(load_model(subject.base, dtype=torch.float32), IDS))
    error = relative_error(logits, expected)
    print(algorithm, zero_point, {"error": error, "quantization": lost})
    assert error <= BOUND
    assert 1e-2 < lost < 1, "it was quantized, not ruined"


def random_adapter(subject: Pressed, out: Path, **settings) -> None:
    """An untrained PEFT adapter whose B is random instead of zero."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(int(settings["r"]))
    model = get_peft_model(subject.reference(), LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.05)
    model.save_pretrained(out)


# q_proj's own rank, k_proj's own scaling, v_proj left out: the graph packs the three into one.
PARTS = ["q_proj", "k_proj", "o_proj", "down_proj"]
ADAPTERS = {
    "rank 2": {"r": 2, "lora_alpha": 4, "target_modules": ["v_proj"]},
    "rank 8": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "rank 33": {"r": 33, "lora_alpha": 16, "target_modules": ["gate_proj", "q_proj"]},
    "rsLoRA": {"r": 16, "lora_alpha": 8, "target_modules": PARTS, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": PARTS,
        "rank_pattern": {"q_proj": 9, "layers.1.mlp.down_proj": 3},
        "alpha_pattern": {"k_proj": 32},
    },
    "deep pattern": {
        "r": 5,
        "lora_alpha": 8,
        "target_modules": PARTS,
        "alpha_pattern": {"model.layers.1.self_attn.o_proj": 64},
    },
    "two patterns": {
        "r": 6,
        "lora_alpha": 8,
        "target_modules": PARTS,
        "alpha_pattern": {"o_proj": 64, ".*_proj": 16},
    },
}


@pytest.fixture(scope="module")
def over_one_graph(pressed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pressed, Path, OnnxLogits]:
    """Llama with all of ADAPTERS loaded at once, and the folder of their PEFT folders."""
    subject, folder = pressed("llama"), tmp_path_factory.mktemp("adapters")
    files = {name: folder / f"{name}.onnx_adapter" for name in ADAPTERS}
    for name, settings in ADAPTERS.items():
        random_adapter(subject, folder / name, **settings)
        convert(folder / name, subject.onnx, files[name])
    return subject, folder, OnnxLogits(subject.onnx, files, TARGET.provider)


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_of_any_rank_share_one_graph(over_one_graph, name):
    """Adapters with other ranks, modules and scalings, all loaded over one graph; each gives PEFT's logits."""
    subject, folder, onnx = over_one_graph
    plain, tuned = (torch_logits(subject.reference(adapter), IDS) for adapter in (None, folder / name))
    error, change = relative_error(onnx(IDS, name), tuned), relative_error(tuned, plain)
    print(name, {"error": error, "change": change})
    assert error <= BOUND
    assert change > 1e-2


def test_the_graph_itself_knows_no_rank(over_one_graph):
    """Ranks are symbols in the graph's inputs, and their defaults are empty."""
    import onnx

    graph = onnx.load(over_one_graph[0].onnx / MODEL, load_external_data=False).graph
    matrices = [value for value in graph.input if re.search(r"lora_[AB]\.weight$", value.name)]
    assert matrices
    for value in matrices:
        assert any(size.dim_param for size in value.type.tensor_type.shape.dim)
