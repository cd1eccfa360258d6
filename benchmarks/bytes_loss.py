"""Bytes and answer loss of our exports beside llama.cpp's files, all made from the same float weights.

make, ours, llama and score are run one after the other, and each skips what is there; docs/log/2026-11-27-bytes.md says
how. llama.cpp's files are scored by their weights (dequantized by its own Python package, in PyTorch, in float32) and,
with its library, as it runs them; ours as they ship, by ONNX Runtime. Both runtimes round activations to int8 on a CPU.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks import libllama
from benchmarks.machine import installed_versions
from benchmarks.models import timed
from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.core.machine import processor
from olivepress.core.outputs import atomic_output, read_json, write_json
from olivepress.export.graph import load
from olivepress.export.sizes import bytes_by_part
from olivepress.fetch.gguf import convert

if TYPE_CHECKING:
    import numpy as np

    from olivepress.evaluate.rows import Row
    from olivepress.evaluate.scores import Scores

ROOT = Path(__file__).parents[1]
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Ours:
    """What the stages are told: how the layers are quantized, and how head and embedding are stored."""

    group: int
    average: float = 0  # bits a weight, scales counted, of mixed precision; 0 without
    zero_point: bool = True
    head: str = "int8"
    embedding: str = "int8"
    algorithm: str = "awq"
    bits: int = 4
    distill_steps: int = 0

    @property
    def checkpoint(self) -> str:
        """The name of its quantized checkpoint, which others may share."""
        mixed = f"-average-{self.average}" if self.average else ""
        distilled = f"-distilled-{self.distill_steps}" if self.distill_steps else ""
        return f"{self.algorithm}-{self.bits}-{self.group}{mixed}{'' if self.zero_point else '-symmetric'}{distilled}"


MIXED = {"head": "mixed", "embedding": "mixed"}
OURS = {
    "mixed 5.1, head mixed": Ours(64, average=5.1, **MIXED),
    "mixed 5.1, head mixed, distilled": Ours(64, average=5.1, distill_steps=64, **MIXED),
    "awq-64": Ours(64),
    "awq-64, head mixed": Ours(64, **MIXED),
    "mixed 4.6, head mixed": Ours(64, average=4.6, **MIXED),
    "mixed 5.1": Ours(64, average=5.1),
    "awq-32": Ours(32),
    "awq-32, head mixed": Ours(32, **MIXED),
    "awq-32, head and embedding int4": Ours(32, head="int4", embedding="int4"),
    "awq-64 symmetric": Ours(64, zero_point=False),
    "kquant8-64": Ours(64, algorithm="kquant", bits=8),
}
CALIBRATION = (
    "--no-exact",
    f"--calibration-data={ROOT / 'data/calibration-talk.jsonl'}",
    "--samples=32",
    "--sequence-length=256",
)
LOW, HIGH = 0.70, 1.42  # of the factors that move the weights off their grid
Folder = click.Path(path_type=Path, file_okay=False)
work_option = click.option("--work", type=Folder, default=ROOT / "models/bench-bytes", help="Scratch folder.")


@click.group()
def main() -> None:
    """Compare sizes and losses on this machine."""


@main.command()
@work_option
@click.option("--gguf", type=click.Path(exists=True, path_type=Path), required=True, help="SmolLM2's Q4_1 file.")
@click.option("--untied", is_flag=True, help="Give it a head of its own, which computes what the shared one does.")
def make(work: Path, gguf: Path, untied: bool) -> None:
    """The float model: float.gguf and float/, the same function as ``gguf`` with weights on no grid."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "float.gguf").exists():
        with timed("moved weights"):
            move_off_grid(gguf, work / "float.gguf", untied=untied)
    if not (work / "float").exists():
        convert(work / "float.gguf", work / "float")


def move_off_grid(source: Path, out: Path, *, untied: bool = False) -> None:
    """Write a float16 GGUF that computes what ``source`` does, a Llama whose weights lie on grids of 32 columns.

    The channels of the residual stream change places, so that no group has the columns of one that was rounded
    together; that moves the embedding and the head, which nothing can be divided out of. And each input channel of each
    projection is scaled by a seeded factor, which the norm before it, or the rows before it, are divided by. ``untied``
    makes the shared head a tensor of its own and scales it in that way, so that it is the embedding no more.
    """
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    random = np.random.default_rng(0)
    settings = {key: reader.fields[f"llama.{key}"].contents() for key in ("attention.head_count", "block_count")}
    groups = settings["attention.head_count"] // reader.fields["llama.attention.head_count_kv"].contents()

    def factors(count: int) -> "np.ndarray":
        return np.exp(random.uniform(np.log(LOW), np.log(HIGH), count)).astype(np.float32)

    for block in range(settings["block_count"]):
        part = {name: f"blk.{block}.{name}.weight" for name in BLOCK}
        for norm, readers in (("attn_norm", ("attn_q", "attn_k", "attn_v")), ("ffn_norm", ("ffn_gate", "ffn_up"))):
            by = factors(len(weights[part[norm]]))
            weights[part[norm]] /= by
            for name in readers:
                weights[part[name]] *= by
        by = factors(len(weights[part["attn_v"]]))
        weights[part["attn_v"]] /= by[:, None]
        heads = by.reshape(-1, weights[part["attn_q"]].shape[0] // settings["attention.head_count"])
        weights[part["attn_output"]] *= np.repeat(heads, groups, axis=0).reshape(-1)
        by = factors(len(weights[part["ffn_up"]]))
        weights[part["ffn_up"]] /= by[:, None]
        weights[part["ffn_down"]] *= by
    if untied:
        by = factors(len(weights["output_norm.weight"]))
        weights["output_norm.weight"] /= by
        weights["output.weight"] = weights["token_embd.weight"] * by
    order = random.permutation(weights["token_embd.weight"].shape[1])
    for name, array in weights.items():
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            weights[name] = array[order]
        else:
            weights[name] = array[..., order]
    _write(reader, weights, out)


BLOCK = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")


def _write(reader: Any, weights: "dict[str, np.ndarray]", out: Path) -> None:
    """A GGUF file with ``reader``'s metadata and these weights: matrices in float16, vectors in float32."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(out, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for name, array in weights.items():
        writer.add_tensor(name, np.ascontiguousarray(array, np.float16 if array.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@main.command()
@work_option
@click.option("--only", multiple=True, type=click.Choice(list(OURS)), help="Rows of OURS; default: all.")
def ours(work: Path, only: tuple[str, ...]) -> None:
    """Quantized checkpoints, and their exports, of every row of OURS."""
    from click.testing import CliRunner

    from stages import auto_opt, quantize

    for name, case in OURS.items():
        if only and name not in only:
            continue
        checkpoint, folder = work / case.checkpoint, work / "ours" / name
        scratch = [f"--{kind}={work / f'scratch-{kind}.json'}" for kind in ("quality", "cost")]
        settings = [f"--base={work / 'float'}", f"--algorithm={case.algorithm}", f"--bits={case.bits}"]
        settings += [f"--group-size={case.group}", f"--average-bits={case.average}"]
        settings += [f"--distill-steps={case.distill_steps}"]
        settings += ["--zero-point" if case.zero_point else "--no-zero-point"]
        stored = [f"--model={checkpoint}", f"--lm-head={case.head}", f"--embedding={case.embedding}"]
        runs = [(quantize.main, checkpoint, [*settings, *CALIBRATION]), (auto_opt.main, folder, stored)]
        for stage, out, options in runs:
            if not out.exists():
                with timed(out.name):
                    done = CliRunner().invoke(stage, [*options, f"--out={out}", *scratch], catch_exceptions=False)
                if done.exit_code:
                    raise PressError(f"{out.name}: {done.output}")


@main.command()
@work_option
@click.option("--library", type=Folder, required=True, help="Folder of libllama and libggml, a build's or a package's.")
def llama(work: Path, library: Path) -> None:
    """llama.cpp's files of libllama.FTYPES, without an importance matrix, as its own tool makes them."""
    for name in libllama.FTYPES:
        out = _gguf(work, name)
        if out.exists():
            continue
        with timed(name), atomic_output(out) as scratch:
            libllama.quantize(library, work / "float.gguf", scratch, name, threads=1)


@main.command()
@work_option
@click.option("--rows", default=120, show_default=True, help="Of data/general.jsonl, evenly spread.")
@click.option("--library", type=Folder, help="Of `llama`: its files are scored as it runs them, too.")
@click.option(
    "--results", type=click.Path(path_type=Path), default=ROOT / "results/bench/bytes-loss.json", show_default=True
)
def score(work: Path, rows: int, library: Path | None, results: Path) -> None:
    """The loss of each on the answers' tokens of the same rows, its increase with an interval, and its bytes."""
    base = _rows(work, rows)
    cache = work / f"scores-{rows}"
    cache.mkdir(exist_ok=True)
    found = {}
    for name, kind, measure in _contestants(work, library):
        file = cache / f"{kind}-{name}.json"
        if not file.exists():
            with timed(name):
                write_json(file, {"nll": measure(base)})
        found[name] = (kind, read_json(file)["nll"])
    record = {"rows": rows, "tokens": sum(base.tokens), "cases": _cases(work, base, found)}
    versions = installed_versions("torch", "onnxruntime", "onnxruntime-genai", "gguf")
    write_json(results, {"processor": processor(), "versions": versions, **record})


def _rows(work: Path, limit: int) -> "Scores":
    """The rows that are scored: questions and answers in the model's chat template."""
    from olivepress.core.tokenizer import load_tokenizer
    from olivepress.data.encode import encode_rows
    from olivepress.evaluate.reference import measured

    tokenizer = load_tokenizer(work / "float", trust_remote_code=False)
    data = ROOT / "data/general.jsonl"
    settings = {"sequence_length": 256, "limit": limit, "generate_rows": 0, "answer_tokens": 1}
    return measured(encode_rows(data, tokenizer, "chat"), tokenizer, "chat", what=str(data), **settings).scores


AS_IT_RUNS = ", as it runs"  # behind the name of one of llama.cpp's files: the same file, otherwise scored


def _gguf(work: Path, name: str) -> Path:
    return work / "llama" / f"{name.removesuffix(AS_IT_RUNS)}.gguf"


def _contestants(work: Path, library: Path | None) -> Iterator[tuple[str, str, Any]]:
    """Name, kind, and the function that gives the loss of each row, of all that was made."""
    yield "float", "float", lambda scores: _in_pytorch(work / "float", scores)
    for name in libllama.FTYPES:
        file = _gguf(work, name)
        if not file.exists():
            continue
        yield name, "llama.cpp", lambda scores, file=file: _of_gguf(work, file, scores)
        if library:
            yield name + AS_IT_RUNS, "llama.cpp", lambda scores, file=file: _in_llama_cpp(library, file, scores)
    for name in filter(lambda name: (work / "ours" / name).exists(), OURS):
        yield name, "ours", lambda scores, name=name: _in_onnx_runtime(work / "ours" / name, scores)


def _in_pytorch(folder: Path, scores: "Scores") -> list[float]:
    from olivepress.evaluate.pytorch import TorchModel, TorchSettings

    model = TorchModel(folder, TorchSettings("float32", "cpu", trust_remote_code=False))
    return model.score(scores.rows, "it", folder.name)[0].nll["it"]


def _of_gguf(work: Path, file: Path, scores: "Scores") -> list[float]:
    folder = work / "dequantized"
    shutil.rmtree(folder, ignore_errors=True)
    convert(file, folder)
    found = _in_pytorch(folder, scores)
    shutil.rmtree(folder)
    return found


def _in_llama_cpp(library: Path, file: Path, scores: "Scores") -> list[float]:
    model = libllama.Llama(library, file, threads=2)
    return [_loss(model.logits(row.ids), row) for row in scores.rows]


def _in_onnx_runtime(folder: Path, scores: "Scores") -> list[float]:
    from olivepress.evaluate.rows import batches
    from olivepress.runtime.logits import OnnxLogits

    model = OnnxLogits(folder, {}, CPU)
    found = [0.0] * len(scores.rows)
    for batch in batches([len(row.ids) for row in scores.rows], model.vocabulary):
        for number, logits in zip(batch, model.batch([scores.rows[number].ids for number in batch]), strict=True):
            found[number] = _loss(logits, scores.rows[number])
    return found


def _loss(logits: "np.ndarray", row: "Row") -> float:
    """The sum over a row's predicted tokens, in nats, of ``logits`` [tokens, vocabulary]."""
    import numpy as np

    from olivepress.evaluate.exported import log_softmax

    log_probs = log_softmax(logits[[place - 1 for place in row.predicted]])
    return -float(log_probs[np.arange(len(log_probs)), row.targets].sum())


def _cases(work: Path, base: "Scores", found: dict[str, tuple[str, list[float]]]) -> dict[str, Any]:
    """By name: bytes, loss, its increase over the float model's and that of each file of llama.cpp's; who beats whom.

    Increases have intervals, paired by row: [value, low, high].
    """
    from olivepress.evaluate.intervals import estimate, mean

    def increase(nll: list[float], over: list[float]) -> list[float]:
        more = estimate(mean, nll, base.tokens, over)
        return [round(value, 4) for value in (more.value, more.low, more.high)]

    _, reference = found["float"]
    cases: dict[str, Any] = {}
    for name, (kind, nll) in found.items():
        entry: dict[str, Any] = {"kind": kind, "loss": round(estimate(mean, nll, base.tokens).value, 4)}
        if kind == "ours":
            entry["parts"] = bytes_by_part(work / "ours" / name, load(work / "ours" / name / MODEL).graph)
            entry["bytes"] = sum(entry["parts"].values())
        else:
            file = work / "float.gguf" if kind == "float" else _gguf(work, name)
            entry["bytes"] = file.stat().st_size
        entry["increase"] = increase(nll, reference)
        cases[name] = entry
    for name, entry in cases.items():
        if entry["kind"] == "ours":
            nll = found[name][1]
            entry["over"] = {
                other: increase(nll, theirs) for other, (kind, theirs) in found.items() if kind == "llama.cpp"
            }
            entry["smaller_and_better"] = [
                name
                for name, other in cases.items()
                if other["kind"] == "llama.cpp" and other["bytes"] < entry["bytes"] and other["loss"] < entry["loss"]
            ]
    return cases


if __name__ == "__main__":
    main()
