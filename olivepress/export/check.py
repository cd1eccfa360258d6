"""Whether an exported graph computes what PyTorch computes of the checkpoint that it was made from.

On one row of random tokens, without an adapter and with a random one, in two ways:

- **exactly**: the graph with its int4 layers computing in float32, against the keys and values of every layer and
  against what the head reads. What is left to differ is the order of summation (for CUDA float16's rounding), so the
  bound is tight, and the first layer beyond it is where a fault begins.
- **as it ships**: the logits, which the rounding of activations and of the head may move by some percent, and a fault
  moves by far more: the whole row, short prompts, and token after token behind a prompt.

Sliding windows of real models are thousands of tokens long; a run beyond them would take minutes, and more memory than
the model. So a layer's window is compared with the configuration's as a number, and what it does is compared with both
set to WINDOW tokens, in a copy of the graph that is never written.
"""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from olivepress.core.artifact import MODEL, library_for
from olivepress.core.errors import PressError
from olivepress.core.lacks import lack
from olivepress.core.pretrained import load_config
from olivepress.core.report import note
from olivepress.export.adapter import convert
from olivepress.export.projections import MODEL_PARTS, read_projections
from olivepress.export.reference import ADAPTED, PLAIN, Reference, compute

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from onnxruntime import LoraAdapter, RunOptions
    from transformers import PretrainedConfig

LENGTH = 256  # tokens; the model's context if that is shorter
WINDOW = 61  # in the place of a sliding window that is longer
JUDGED = 64  # last places, at which logits are compared
PROMPTS = (1, 2, 9, 200)  # tokens of shorter prompts, as in questions of a few words and in whole conversations
STEPS = 3  # tokens decoded one by one behind a prompt
# Relative errors (Frobenius norm) allowed in the exact comparison, by the type that the graph computes in. In float32
# 1e-6 was seen; float16 has 1000 times its rounding, which adds up over layers. Known faults move keys by 55% and more.
EXACT = {"tensor(float)": 2e-3, "float16 cache": 5e-3, "tensor(float16)": 0.1}
# and those of the logits as they ship: relative error, median KL divergence in nats. Seen with int8 activations, head:
# up to 0.095 and 0.068 (SmolLM2, a random adapter, prompts of one token), else 0.03 and 0.008; a head of int4: 0.09.
# The worst place is left out: at the second of these random tokens rounding moved a mixed precision of SmolLM2 by 0.96
# without an adapter, and its portable graph by 0.99 with one, where all others were within 0.1.
RELATIVE, DIVERGENCE = 0.3, 0.5
FEW_PLACES = 8
ROWS = {4: 0.2, 8: 0.03}  # of an embedding, by the fewest bits that it has; seen: 0.1 and 0.007


def check(
    quantized: Path, folder: Path, provider: str, *, elsewhere: bool = False, trust_remote_code: bool = False
) -> dict[str, float]:
    """Compare the model in ``folder``, exported for ``provider``, with the checkpoint; returns the greatest errors.

    Every graph there is compared; they share weights and adapters. Raises PressError that names the first layer that
    differs. Where this machine has no such provider, a note says that nothing was computed, and nothing is returned.
    ``elsewhere``: the CPU computes the graph of another provider.
    """
    import onnxruntime
    import torch

    provider = "CPUExecutionProvider" if elsewhere else provider

    config = load_config(quantized, trust_remote_code=trust_remote_code)
    ids = random_tokens(config.vocab_size, min(LENGTH, config.max_position_embeddings))
    window = getattr(config, "sliding_window", None)
    short = WINDOW if window and min(window, len(ids)) > WINDOW else None
    shipped, exact = ({path: onnx_graph(path) for path in sorted(folder.glob("*.onnx"))} for _ in range(2))
    for graphs in (shipped, exact):
        for path, proto in graphs.items():
            _shorten_windows(path, proto, window, short)
    if provider not in onnxruntime.get_available_providers():
        note(
            f"{provider} is not on this machine: the exported graph was looked through, and not computed against "
            "PyTorch. Run auto-opt once where it is."
        )
        return {}
    measured = {"logits": 0.0, "layers": 0.0}
    for proto in exact.values():
        _make_exact(proto)
    looked: set[Path] = set()
    with TemporaryDirectory(prefix="check-", dir=folder.parent) as scratch:
        lengths = _lengths(config, len(ids))
        for length in lengths:
            subject = Row(ids[:length], longer_than=lengths[0] if length > lengths[0] else 0)
            reference = compute(
                quantized,
                subject.ids,
                subject.places,
                Path(scratch) / f"adapter-{length}",
                window=short,
                targets=_modules(folder),
                device="cuda" if torch.cuda.is_available() else "cpu",  # for every target: it is minutes, or seconds
                trust_remote_code=trust_remote_code,
            )
            adapter = None
            if reference.adapter:
                adapter = Path(scratch) / f"{length}.onnx_adapter"
                convert(reference.adapter, folder, adapter)
            for path, proto in shipped.items():
                bits = _embedding_bits(proto)
                if path in looked or bits is None:
                    continue
                _check_rows(path, proto, provider, subject.ids, reference.embedded, ROWS[4 if bits < 8 else 8])
                # On random tokens, most of which are rare, the rounding of few bits moves logits by more than a fault
                # does; so the logits are compared on the exact rows.
                if bits < 8:
                    _read_rows(proto, _lookup(proto))
                looked.add(path)
            for path in shipped:
                # the exact comparison first: it says where a fault begins
                layers = _check_exact(Graph(path, exact[path], provider, adapter, elsewhere), subject, reference)
                logits = _check_shipped(Graph(path, shipped[path], provider, adapter, elsewhere), subject, reference)
                measured = {"logits": max(measured["logits"], logits), "layers": max(measured["layers"], layers)}
    return measured


@dataclass(frozen=True)
class Row:
    """The tokens that are compared, and with which prompts: those ``longer_than`` so many tokens."""

    ids: list[int]
    longer_than: int

    @property
    def prompts(self) -> list[int]:
        """Lengths of the prompts that begin it and leave room for decoding."""
        return [length for length in PROMPTS if self.longer_than < length <= len(self.ids) - STEPS]

    @property
    def places(self) -> list[int]:
        """Where logits are compared."""
        steps = {length - 1 + step for length in self.prompts for step in range(STEPS + 1)}
        return sorted(steps | set(range(max(0, len(self.ids) - JUDGED), len(self.ids))))


def _lengths(config: "PretrainedConfig", length: int) -> list[int]:
    """``length``, and where the rotation depends on the length of a text one on each side of where it changes."""
    rope = getattr(config, "rope_parameters", None) or {}
    original = rope.get("original_max_position_embeddings", getattr(config, "original_max_position_embeddings", None))
    if rope.get("rope_type") == "longrope" and original and original < length:
        return [original, length]
    return [length]


def random_tokens(vocabulary: int, length: int) -> list[int]:
    """The same ones each time."""
    import numpy as np

    return np.random.default_rng(0).integers(vocabulary, size=length).tolist()


def _modules(folder: Path) -> set[str]:
    """What the projections with LoRA inputs, their parts, and what they are parts of are called in a checkpoint."""
    names = {name for _, name in read_projections(folder / MODEL)}
    parts = {part for name in names for part in MODEL_PARTS.get(name, ())}
    return names | parts | {whole for whole, parts in MODEL_PARTS.items() if names & set(parts)}


def onnx_graph(path: Path) -> "onnx.ModelProto":
    """The graph without its weights."""
    import onnx

    return onnx.load(path, load_external_data=False)


def _shorten_windows(path: Path, proto: "onnx.ModelProto", window: int | None, short: int | None) -> None:
    """Give every layer that has the configuration's ``window`` the ``short`` one; PressError for one with another."""
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name != "local_window_size" or attribute.i <= 0:
                continue
            if attribute.i != window:
                raise PressError(
                    f"{path}: {node.name} sees the last {attribute.i} tokens; sliding_window of config.json is "
                    f"{window}. The ONNX Runtime GenAI builder exports this architecture wrong."
                )
            attribute.i = short or attribute.i


def _make_exact(proto: "onnx.ModelProto") -> None:
    """Have quantized layers compute in float32 (accuracy_level 1), by ONNX Runtime's own operator; take the rows of a
    quantized embedding as an input; show what the head reads. A layer that is one operator becomes its nodes."""
    import onnx

    from olivepress.export.passes.decoder_layers import DOMAIN, expand

    lookup = _lookup(proto)
    if lookup:
        _read_rows(proto, lookup)
    expand(proto)
    for node in list(proto.graph.node):
        if node.op_type == "MatMulNBits":
            if node.domain == DOMAIN:
                _widen_scales(proto, node)
            node.domain = "com.microsoft"
            del node.output[1:]  # ours on CUDA has a second, which nothing reads
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 1
        turned = node.op_type == "Transpose"  # of a tied head's table
        if node.name.startswith("/lm_head/MatMul") and not turned and not node.name.endswith("/rare"):
            proto.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))


def _lookup(proto: "onnx.ModelProto") -> "onnx.NodeProto | None":
    """The node that gives the tokens' rows of a quantized embedding."""
    from olivepress.export.passes.mixed_head import MIXED_LOOKUP

    found = [node for node in proto.graph.node if node.name == MIXED_LOOKUP or node.op_type == "GatherBlockQuantized"]
    return found[-1] if found else None


def _embedding_bits(proto: "onnx.ModelProto") -> int | None:
    """The fewest bits of a quantized embedding; None for another."""
    bits = [
        attribute.i
        for node in proto.graph.node
        for attribute in node.attribute
        if node.op_type == "GatherBlockQuantized" and attribute.name == "bits"
    ]
    return min(bits, default=None)


def _read_rows(proto: "onnx.ModelProto", lookup: "onnx.NodeProto") -> None:
    """Make the rows of the embedding an input in the place of the lookup; nodes that only it reads are left idle."""
    import onnx

    keys = proto.graph.output[1].type.tensor_type.elem_type
    dtype = onnx.TensorProto.FLOAT if _has_own_cache(proto) else keys
    proto.graph.input.append(onnx.helper.make_tensor_value_info(lookup.output[0], dtype, None))
    proto.graph.node.remove(lookup)


def _has_own_cache(proto: "onnx.ModelProto") -> bool:
    """Whether the cache is in float16 where the graph computes in float32: passes/half_cache.py."""
    from olivepress.export.passes.decoder_layers import DOMAIN, LAYER

    return any(node.op_type in ("GroupQueryAttention", LAYER) and node.domain == DOMAIN for node in proto.graph.node)


def _widen_scales(proto: "onnx.ModelProto", product: "onnx.NodeProto") -> None:
    """Scales in float16, which ours reads, in float32 for ONNX Runtime's."""
    import onnx

    scales = product.input[2]
    if any(t.name == scales and t.data_type == onnx.TensorProto.FLOAT16 for t in proto.graph.initializer):
        product.input[2] = f"{product.name}/scales"
        cast = onnx.helper.make_node("Cast", [scales], [product.input[2]], product.input[2], to=onnx.TensorProto.FLOAT)
        proto.graph.node.insert(list(proto.graph.node).index(product), cast)


def _check_rows(
    path: Path, proto: "onnx.ModelProto", provider: str, ids: list[int], expected: "np.ndarray", bound: float
) -> None:
    """PressError unless the graph's lookup gives the rows of ``ids`` [places, width] to within ``bound``."""
    import numpy as np
    import onnx
    import onnxruntime

    lookup = _lookup(proto)
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    del alone.graph.output[:], alone.graph.input[:]
    alone.graph.input.extend(value for value in proto.graph.input if value.name == "input_ids")
    alone.graph.output.append(onnx.ValueInfoProto(name=lookup.output[0]))
    kept = _before(alone.graph.node, lookup.output[0])
    del alone.graph.node[:]
    alone.graph.node.extend(kept)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        session = onnxruntime.InferenceSession(alone.SerializeToString(), options, providers=[provider])
        (rows,) = session.run(None, {"input_ids": np.array([ids], np.int64)})
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        raise _cannot_run(error) from error
    error = relative_error(rows[0], expected)
    if not error <= bound:
        raise PressError(
            f"{path.name}: the embedding's rows differ from PyTorch's by {error:.1%} (at most {bound:.0%}). Nothing "
            "was written."
        )


def _before(nodes: "Iterable[onnx.NodeProto]", name: str) -> "list[onnx.NodeProto]":
    """The nodes that ``name`` is computed from, in their order."""
    wanted, kept = {name}, []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


@dataclass
class Result:
    """Logits [places, vocabulary]; per layer keys and values [heads, places, size]; what the head reads, if shown."""

    logits: "np.ndarray"
    cache: "dict[int, tuple[np.ndarray, np.ndarray]]"
    head_input: "np.ndarray | None"
    states: "dict[str, np.ndarray]"


class Graph:
    """The graph ``proto`` of the file ``path`` on one execution provider, with an adapter or none.

    ``elsewhere``: it was made for another provider than this one.
    """

    def __init__(
        self, path: Path, proto: "onnx.ModelProto", provider: str, adapter: Path | None, elsewhere: bool = False
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        if elsewhere:
            # The last of ONNX Runtime's optimizations, those of a CPU's layout, end the process (1.26.0) on a graph in
            # float16, which the CPU has few kernels for.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        if (library := path.with_name(library_for(platform.machine()))).is_file():
            options.register_custom_ops_library(str(library))
        try:
            self._session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=[provider])
        except Exception as error:  # ONNX Runtime's errors have no class of their own
            raise _cannot_run(error) from error
        self.inputs = {value.name: value for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]
        self.name = path.name
        self.bound = EXACT["float16 cache" if _has_own_cache(proto) else self._session.get_outputs()[1].type]
        self._runs: dict[int, RunOptions] = {PLAIN: onnxruntime.RunOptions()}
        self._loaded: list[LoraAdapter] = []  # the options borrow it
        if adapter:
            self._loaded.append(onnxruntime.LoraAdapter())
            self._loaded[0].Load(str(adapter))
            self._runs[ADAPTED] = onnxruntime.RunOptions()
            self._runs[ADAPTED].add_active_adapter(self._loaded[0])

    @property
    def rows(self) -> tuple[int, ...]:
        """PLAIN, and ADAPTED if there is an adapter."""
        return tuple(self._runs)

    def __call__(
        self, ids: list[int], row: int, before: Result | None = None, embedded: "np.ndarray | None" = None
    ) -> Result:
        """What it makes of ``ids``, behind what it has made of others ``before``.

        ``embedded``: their rows of the embedding, for a graph that reads them.
        """
        import numpy as np

        past = before.states if before else {}
        start = next((array.shape[2] for array in past.values() if array.ndim == 4), 0)
        feeds = {}
        for name, value in self.inputs.items():
            dtype = np.float16 if value.type == "tensor(float16)" else np.float32
            if name == "input_ids":
                feeds[name] = np.array([ids], np.int64)
            elif name == "attention_mask":
                feeds[name] = np.ones((1, start + len(ids)), np.int64)
            elif name == "position_ids":
                feeds[name] = np.arange(start, start + len(ids))[None]
            elif name.startswith("past"):
                shape = [{"batch_size": 1}.get(size, size if isinstance(size, int) else 0) for size in value.shape]
                feeds[name] = past.get(name, np.zeros(shape, dtype))
            elif "lora_" not in name:
                feeds[name] = embedded[None].astype(dtype)
        try:
            found = dict(zip(self._outputs, self._session.run(None, feeds, self._runs[row]), strict=True))
        except Exception as error:
            raise _cannot_run(error) from error
        states = {name.replace("present", "past_key_values", 1): found[name] for name in found if "present." in name}
        cache = {
            number: (found[f"present.{number}.key"][0], found[f"present.{number}.value"][0])
            for number in range(len(states))
            if f"present.{number}.key" in found
        }
        shown = [found[name][0] for name in found if name != "logits" and not name.startswith("present")]
        return Result(found["logits"][0].astype(np.float32), cache, shown[0] if shown else None, states)


def _cannot_run(error: Exception) -> PressError:
    if said := lack(error):  # the machine lacks it, not the graph
        return PressError(said)
    return PressError(f"ONNX Runtime cannot run the exported graph: {' '.join(str(error).split())[:400]}")


def _check_exact(graph: Graph, subject: Row, reference: Reference) -> float:
    """The greatest relative error of what is inside; PressError names where it first exceeds the bound."""
    bound, greatest = graph.bound, 0.0
    for row in graph.rows:
        result = graph(subject.ids, row, embedded=reference.embedded)
        for place, error in _inside(result, reference, row):
            if not error <= bound:
                said = f"{place} differ from PyTorch's by {error:.1%} (at most {bound:.1%})"
                raise _differs(graph, said, row)
            greatest = max(greatest, error)
    return greatest


def _inside(result: Result, reference: Reference, row: int) -> Iterator[tuple[str, float]]:
    """(where, relative error) from the first layer on."""
    for number, parts in result.cache.items():
        kept = reference.cache[row][number]
        if kept is None:
            continue
        key, value = (
            relative_error(found[:, -expected.shape[1] :], expected)
            for found, expected in zip(parts, kept, strict=True)
        )
        # keys and values are two products of one norm: where keys alone differ, it is the rotation or a norm of theirs
        yield f"layer {number}: values (its input, its norm or v_proj)", value
        yield f"layer {number}: keys (k_proj, their norm or their rotary embedding)", key
    if result.head_input is not None:
        yield "after the last layer: inputs of the head", relative_error(result.head_input, reference.head_input[row])


def _check_shipped(graph: Graph, subject: Row, reference: Reference) -> float:
    """The greatest relative error of logits; PressError if one exceeds a bound."""
    import numpy as np

    column = {place: number for number, place in enumerate(subject.places)}
    errors = []
    for row in graph.rows:
        expected = reference.logits[row]
        whole = graph(subject.ids, row, embedded=reference.embedded).logits[-JUDGED:]
        last = subject.places[-len(whole) :]
        errors.append(_judge(graph, whole, expected[-len(whole) :], last, f"{len(subject.ids)} tokens", row))
        found, theirs, places = [], [], []
        for length in subject.prompts:
            result = graph(subject.ids[:length], row, embedded=reference.embedded[:length])
            for place in range(length - 1, length + STEPS):
                if place >= length:
                    result = graph([subject.ids[place]], row, result, reference.embedded[place : place + 1])
                found.append(result.logits[-1])
                theirs.append(expected[column[place]])
                places.append(place)
        if found:
            what = f"prompts of {subject.prompts} tokens, and {STEPS} decoded behind each,"
            errors.append(_judge(graph, np.stack(found), np.stack(theirs), places, what, row))
    return max(errors)


def _judge(graph: Graph, found: "np.ndarray", expected: "np.ndarray", places: list[int], what: str, row: int) -> float:
    error, nats = error_but_the_worst(found, expected, places), divergence(found, expected)
    same = float((found.argmax(-1) == expected.argmax(-1)).mean())
    if not (error <= RELATIVE and nats <= DIVERGENCE):
        raise _differs(
            graph,
            f"the logits of {what} differ from PyTorch's by {error:.1%} without the worst place (at most "
            f"{RELATIVE:.0%}), KL divergence "
            f"{nats:.3f} nats (at most {DIVERGENCE}), {same:.0%} of the likeliest tokens are the same",
            row,
        )
    return error


def _differs(graph: Graph, text: str, row: int) -> PressError:
    who = "with a random adapter" if row == ADAPTED else "without an adapter"
    return PressError(
        f"{graph.name} does not compute what the checkpoint does, on random tokens and {who}: {text}. "
        "The ONNX Runtime GenAI builder exports this architecture, or this configuration of it, wrong. Nothing was "
        "written; docs/architectures.md has what works."
    )


def relative_error(found: "np.ndarray", expected: "np.ndarray") -> float:
    """|found - expected| / |expected| in the Frobenius norm; NaN where either has one."""
    import numpy as np

    return float(np.linalg.norm(found.astype(np.float32) - expected) / max(np.linalg.norm(expected), 1e-20))


def error_but_the_worst(found: "np.ndarray", expected: "np.ndarray", places: list[int]) -> float:
    """`relative_error` of logits [rows, vocabulary] without the place that is furthest off; NaN if one is NaN.

    ``places``: of each row in the text; one may be there twice, behind prompts of different lengths. Of less than
    FEW_PLACES none is left out: a fault might show at one alone.
    """
    import numpy as np

    if len(set(places)) < FEW_PLACES or not np.isfinite(found).all():
        return relative_error(found, expected)
    worst = places[int(np.linalg.norm(found.astype(np.float32) - expected, axis=1).argmax())]
    kept = np.array(places) != worst
    return relative_error(found[kept], expected[kept])


def divergence(found: "np.ndarray", expected: "np.ndarray") -> float:
    """Median over places of KL(expected ‖ found) of softmaxed logits [places, vocabulary], in nats; NaN if one is NaN.

    Not the mean: at two random tokens with a random adapter, rounding activations alone moves SmolLM2 by 3 nats in
    PyTorch, too. A fault that shows at a few places only has to show in the relative error.
    """
    import numpy as np

    def log_softmax(logits: "np.ndarray") -> "np.ndarray":
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    ours, theirs = log_softmax(expected), log_softmax(found)
    return float(np.median((np.exp(ours) * (ours - theirs)).sum(axis=1)))
