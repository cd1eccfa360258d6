"""Tiny random checkpoints of every architecture, and how their exported graphs are compared with PyTorch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCABULARY = 320  # no layer has as many outputs: the builder takes any layer that does for the head
CONTEXT = 512
GROUP = 32
LAYERS = 2
PADDING, USER, ASSISTANT, END = SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# What each architecture has that the others lack.
EXTRAS: dict[str, dict[str, Any]] = {
    "phi3": {"original_max_position_embeddings": CONTEXT},  # packs q/k/v, and gate/up
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},  # q/k/v have biases
    "qwen3": {"head_dim": 32},  # q and k are normalised per head
}
ADD_ONE = ("gemma", "nemotron")  # to the weights of their norms
PACKED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def random_blocks(count: int, length: int, seed: int = 0) -> list[list[int]]:
    """``count`` lists of ``length`` random tokens, none of them special."""
    return np.random.default_rng(seed).integers(len(SPECIAL), VOCABULARY, (count, length)).tolist()


def make_checkpoint(architecture: str, folder: Path, **settings: Any) -> None:
    """A random float16 checkpoint: 2 layers, width 128, 4 heads sharing 2 key/value heads, with its tokenizer.

    Weights are normal(0, 0.08), so that logits differ by about 1; norms are about 1 and biases are not zero, so that
    one that gets lost shows. The end token 0 has logit 0, which is never the greatest of 320: decoding goes on.
    ``settings`` stand in the configuration in the place of these, and of EXTRAS.
    """
    import transformers

    torch.manual_seed([*EXTRAS, architecture].index(architecture))  # llama and mistral would else be one model
    shape = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    config = transformers.CONFIG_MAPPING[architecture](**{**shape, **EXTRAS.get(architecture, {}), **settings})
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.08)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
            else:
                parameter.normal_(0 if architecture.startswith(ADD_ONE) else 1, 0.2)
        model.get_output_embeddings().weight[0] = 0
    model.half().save_pretrained(folder)
    make_tokenizer(folder)


def make_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer without merges: every byte is a token, after the special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=PADDING, eos_token=PADDING, pad_token=PADDING)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")


def torch_logits(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    """Logits [len(ids), vocabulary] of one sequence."""
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """|found - expected| / |expected| in the Frobenius norm."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def torch_greedy(model: torch.nn.Module, ids: list[int], count: int) -> list[int]:
    """At most ``count`` tokens after ``ids``, each the likeliest, until the end token 0.

    There is no cache: the whole sequence is run anew for each token.
    """
    tokens = list(ids)
    while len(tokens) < len(ids) + count:
        tokens.append(int(torch_logits(model, tokens)[-1].argmax()))
        if tokens[-1] == 0:
            break
    return tokens[len(ids) :]


def genai_greedy(folder: Path, adapter: Path | None, ids: list[int], count: int) -> list[int]:
    """The same by ONNX Runtime GenAI, as olivepress.runtime.genai decodes."""
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    adapters = og.Adapters(model)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + count, do_sample=False)
    generator = og.Generator(model, params)
    if adapter:
        adapters.load(str(adapter), "adapter")
        generator.set_active_adapter(adapters, "adapter")
    generator.append_tokens(np.array(ids, np.int32))
    tokens = []
    while not generator.is_done():
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
    return tokens


def awq_integers(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Module -> (weights [out, in], zero points [out, in/group], scales [out, in/group]) of an AWQ checkpoint.

    Unpacked by AutoAWQ. Scales are float32, widened from the file's float16.
    """
    from safetensors.torch import load_file

    from olivepress.modeling.autoawq import import_autoawq

    import_autoawq()
    from awq.utils.packing_utils import reverse_awq_order, unpack_awq

    tensors = {}
    for shard in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(shard))
    found = {}
    for name, qweight in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind != "qweight":
            continue
        packed = unpack_awq(qweight, tensors[f"{module}.qzeros"], 4)
        weights, zeros = ((part & 15).T.numpy().astype(np.uint8) for part in reverse_awq_order(*packed, 4))
        scales = tensors[f"{module}.scales"]
        assert scales.dtype == torch.float16
        found[module] = (weights, zeros, scales.float().T.numpy())
    return found


def graph_integers(model_path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """MatMulNBits node -> the same three, read from the graph by the operator's own definition.

    B is [N, K/group, group/2] uint8, zero points [N, K/group/2] uint8, in both the even element is the low nibble.
    Scales lie in the file as float16, and a Cast makes them what the kernel takes.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model_path).graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in arrays]
    arrays |= {node.output[0]: arrays[node.input[0]] for node in casts}
    found = {}
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            continue
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        assert (attributes["bits"], attributes["block_size"]) == (4, GROUP)
        rows, columns = attributes["N"], attributes["K"]
        weights, scales, zeros = (numpy_helper.to_array(arrays[name]) for name in node.input[1:4])
        found[node.name] = (
            _nibbles(weights.reshape(rows, columns // 2)),
            _nibbles(zeros.reshape(rows, -1)),
            scales.astype(np.float32).reshape(rows, columns // GROUP),
        )
    return found


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """[rows, n] bytes as [rows, 2n] numbers, the low nibble first."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


def pack_like(
    modules: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], layer: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layer ``layer``'s projection ``name`` from a checkpoint that may pack q/k/v and gate/up otherwise.

    q/k/v, and gate and up, are stacked by rows into one, as our export packs them; gate_up is cut into halves where a
    graph has the two apart.
    """
    here = {key.rpartition(".")[2]: value for key, value in modules.items() if f".layers.{layer}." in key}
    if name in here:
        return here[name]
    if name in PACKED:
        stacked = [here[part] for part in PACKED[name]]
        return tuple(np.concatenate(column) for column in zip(*stacked, strict=True))
    half = PACKED["gate_up_proj"].index(name)
    return tuple(np.split(part, 2)[half] for part in here["gate_up_proj"])
