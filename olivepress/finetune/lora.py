"""LoRA fine-tuning (Hu et al. 2021, arXiv:2106.09685) on the dequantized checkpoint, by Olive's pass.

Olive's pass creates the adapter and readies the model, which comes dequantized, in memory. Training is by a Trainer of
ours, one and the same in one process and in several: Olive's takes no callbacks and no collator, so it can neither mask
what is no answer, nor keep the best adapter, nor train on preferences. See olive_lora.py and trainer.py.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.lora_variants import read_patterns, read_ranks
from olivepress.core.outputs import remove
from olivepress.core.prepared import Preference, Prepared, spread
from olivepress.core.report import note
from olivepress.finetune import parallel as lora_parallel
from olivepress.finetune.activations import room_for
from olivepress.finetune.rows import Rows, encode, encode_preferences
from olivepress.modeling.dequantize import load_model
from olivepress.modeling.olive_pass import run_pass

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}  # transformers' names
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)  # in the name of a module that holds its projections
# trl's names of what preferences are measured by, on held-out rows
PREFERENCE_METRICS = {
    "preference_loss": "eval_loss",
    "reward_accuracy": "eval_rewards/accuracies",
    "reward_margin": "eval_rewards/margins",
}


@dataclass(frozen=True)
class LoraSettings:
    """Names are PEFT's and the Trainer's, defaults those of params.yaml's schema.

    ``method``: sft, on answers (cross entropy), or dpo, on preferences, with its ``beta``. ``train_on``: answers or all
    tokens. ``packing``: rows share sequences of ``sequence_length`` tokens, and ``batch_size`` counts these.
    ``group_by_length``: rows of one step are about as long, so that there is little padding.
    ``target_modules``: "default" (Olive's for the architecture), "all-linear", or names joined by commas.
    ``rank_pattern`` and ``alpha_pattern``: "q_proj=8, o_proj=4". ``rslora``: scale by alpha / sqrt(rank).
    ``sequence_length`` in tokens; longer rows are cut. ``batch_size`` is of a whole step, shared out among
    ``processes`` and ``gradient_accumulation_steps``; ``parallel`` says how: none, ddp or fsdp. ``eval_steps``: steps
    between held-out losses, taken on ``eval_rows`` rows; after ``early_stopping`` of them without a gain it ends (0:
    never).
    """

    rank: int
    alpha: float
    dropout: float
    target_modules: str
    steps: int
    batch_size: int
    learning_rate: float
    sequence_length: int
    eval_steps: int
    gradient_checkpointing: bool
    seed: int
    dtype: str
    device: str
    processes: int
    parallel: str
    method: str = "sft"
    beta: float = 0.1
    train_on: str = "answers"
    packing: bool = False
    group_by_length: bool = False
    rank_pattern: str = ""
    alpha_pattern: str = ""
    rslora: bool = False
    gradient_accumulation_steps: int = 1
    schedule: str = "linear"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    eval_rows: int = 200
    early_stopping: int = 0


@dataclass(frozen=True)
class Training:
    """How a training went. ``log``: the Trainer's, dicts with "step" and "loss" or "eval_loss" (mean nats a token that
    counts, or trl's loss of preferences). ``best_step``: the step whose adapter is saved; 0 is before training."""

    method: str
    log: list[dict[str, float]]
    best_step: int
    train: Rows
    held_out: Rows

    def curve(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of all entries that have ``key``."""
        return [(int(entry["step"]), entry[key]) for entry in self.log if key in entry]

    def metrics(self) -> dict[str, Any]:
        """Numbers of its quality: held-out loss before, at the best step and after; rows and tokens."""
        names = PREFERENCE_METRICS if self.method == "dpo" else {"held_out_loss": "eval_loss"}
        held_out = {}
        for name, key in names.items():
            curve = self.curve(key)
            places = {"before": curve[0][1], "best": dict(curve)[self.best_step], "after": curve[-1][1]}
            held_out[name] = {place: round(value, 4) for place, value in places.items()}
        training = self.curve("loss")
        return {
            **held_out,
            "best_step": self.best_step,
            "steps": training[-1][0],
            "last_training_loss": round(training[-1][1], 4),
            "train": self.train.counts(),
            "held_out": self.held_out.counts(),
        }


def finetune(
    model_folder: Path,
    train: list[Prepared] | list[Preference],
    held_out: list[Prepared] | list[Preference],
    out: Path,
    settings: LoraSettings,
    *,
    trust_remote_code: bool = False,
    watch: Callable[[dict[str, float]], None] | None = None,
) -> Training:
    """Train an adapter on the rows ``train``; write a plain PEFT adapter folder to ``out``: the best one by
    ``held_out``, of those that were evaluated, the untrained one included.

    ``watch`` is given each entry of the log as it comes, in the process that trains (the first of several: then it
    has to be picklable). Raises PressError if a target module does not exist in the model, a row has no answer within
    ``sequence_length``, or the processes cannot run so.
    """
    lora_parallel.check(
        settings.processes,
        settings.parallel,
        settings.batch_size,
        settings.device,
        parts=settings.gradient_accumulation_steps,
    )
    if settings.method == "dpo" and (settings.processes > 1 or settings.packing or settings.train_on == "all"):
        raise PressError(
            "finetune.method: dpo compares two answers to a prompt, in one process: expected finetune.processes 1, no "
            "packing, train_on answers."
        )
    sides = (
        _encode(dict(enumerate(train, 1)), settings, settings.train_on, "train.jsonl"),
        # the best is the best at answers, whatever is trained on
        _encode(dict(spread(list(enumerate(held_out, 1)), settings.eval_rows)), settings, "answers", "held_out.jsonl"),
    )
    log_folder = out.parent / f"{out.name}.log"
    rows = tuple(side.rows for side in sides)
    arguments = (model_folder, rows, out, log_folder, settings, trust_remote_code, watch)
    try:
        if settings.processes == 1:
            _train(*arguments)
        else:
            lora_parallel.launch(_train, *arguments, processes=settings.processes)
        state = json.loads((log_folder / "trainer_state.json").read_text())
    finally:
        remove(log_folder)
    _tidy(out)
    training = Training(settings.method, state["log_history"], state["best_global_step"], *sides)
    if not training.best_step:
        note(
            f"finetune: none of {training.metrics()['steps']} steps made the adapter better on held-out rows: the "
            "untrained one is kept, which changes nothing. Lower finetune.learning_rate, or look at the data."
        )
    return training


def _encode(rows: dict[int, Any], settings: LoraSettings, counted: str, where: str) -> Rows:
    if settings.method == "dpo":
        found = encode_preferences(rows, settings.sequence_length, where)
    else:
        found = encode(rows, settings.sequence_length, counted, where)
    if found.cut:
        note(
            f"finetune: {found.cut} of {len(rows)} rows of {where} are longer than finetune.sequence_length "
            f"{settings.sequence_length}: {found.lost} tokens of their answers are cut away."
        )
    return found


def _train(
    model_folder: Path,
    rows: tuple[list[Any], list[Any]],
    out: Path,
    log_folder: Path,
    settings: LoraSettings,
    trust_remote_code: bool,
    watch: Callable[[dict[str, float]], None] | None,
) -> None:
    """Train and save in this process, or as one of several."""
    import torch
    import transformers

    from olivepress.finetune.olive_lora import LoRAInMemory
    from olivepress.finetune.trainer import train

    transformers.set_seed(settings.seed)  # Olive creates the adapter unseeded; the Trainer seeds only itself
    model = load_model(
        model_folder,
        # float16 trains in mixed precision, over float32 weights
        dtype=torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32,
        # fsdp shares the weights out before they go to the GPU, which may not hold them all
        device="cpu" if settings.parallel == "fsdp" else settings.device,
        trust_remote_code=trust_remote_code,
    )
    if settings.gradient_checkpointing and _keeps_activations(model, rows[0], settings):
        settings = replace(settings, gradient_checkpointing=False)  # the bits are the same
    config = _pass_config(settings, target_modules(model, settings.target_modules), log_folder)
    variant = {
        "use_rslora": settings.rslora,
        "rank_pattern": read_ranks(settings.rank_pattern),
        "alpha_pattern": read_patterns(settings.alpha_pattern),
    }
    if settings.parallel == "fsdp":
        lora_parallel.shard(model, settings.device)
    lora = LoRAInMemory.of(model, variant, partial(train, rows=rows, settings=settings, watch=watch))
    run_pass(lora, config, model_folder, out, trust_remote_code=trust_remote_code)


def _keeps_activations(model: "PreTrainedModel", rows: list[Any], settings: LoraSettings) -> bool:
    """Whether the GPU has room for a step's activations, so that the way back need not compute them again."""
    if not settings.device.startswith("cuda") or settings.processes > 1 or settings.method == "dpo":
        return False
    longest = settings.sequence_length if settings.packing else max(len(row["input_ids"]) for row in rows)
    tokens = settings.batch_size // settings.gradient_accumulation_steps * longest
    bits = 16 if settings.dtype == "bfloat16" else 32
    return room_for(model.config, tokens, settings.device, bits=bits)


def _pass_config(settings: LoraSettings, targets: list[str] | None, log_folder: Path) -> dict[str, Any]:
    """``settings`` under the names of Olive's pass; what it does not do is in ``training_arguments``."""
    return {
        "r": settings.rank,
        "alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": targets,
        "torch_dtype": settings.dtype,
        "train_data_config": {"name": "train"},
        "training_args": {"output_dir": str(log_folder), "gradient_checkpointing": settings.gradient_checkpointing},
    }


def training_arguments(settings: LoraSettings) -> dict[str, Any]:
    """``settings`` as arguments of transformers' Trainer."""
    rows = settings.batch_size // settings.processes // settings.gradient_accumulation_steps
    arguments = {
        "max_steps": settings.steps,
        "per_device_train_batch_size": rows,
        "per_device_eval_batch_size": rows,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": SCHEDULES[settings.schedule],
        "warmup_steps": settings.warmup_ratio,  # below 1 it is a share of the steps
        "weight_decay": settings.weight_decay,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide a loss that is not finite
        "eval_strategy": "steps",
        "eval_steps": settings.eval_steps,
        "eval_on_start": True,
        "save_strategy": "no",
        "report_to": "none",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": settings.device == "cpu",
        "dataloader_pin_memory": settings.device != "cpu",
        "disable_tqdm": False,
    }
    if settings.processes > 1:
        arguments |= {
            "ddp_backend": "gloo" if settings.device == "cpu" else "nccl",
            "ddp_find_unused_parameters": False,
        }
    return arguments


def target_modules(model: "PreTrainedModel", wanted: str) -> list[str] | None:
    """The names for PEFT: None lets Olive choose; every name is checked against the model's linear layers.

    For an architecture of which neither Olive nor PEFT knows a default, it is the attention's projections.
    """
    import torch
    from olive.common.hf.mappings import MODELS_TO_LORA_TARGET_MODULES_MAPPING
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    head = model.get_output_embeddings()
    layers = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head
    ]
    linear = {name.rpartition(".")[2] for name in layers}
    if wanted == "default":
        kind = model.config.model_type
        if kind in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING or kind in MODELS_TO_LORA_TARGET_MODULES_MAPPING:
            return None
        names = sorted({name.rpartition(".")[2] for name in layers if ATTENTION.search(name.rpartition(".")[0])})
        if not names:
            raise PressError(
                f"finetune.target_modules: no default for {kind}. Name its layers: {', '.join(sorted(linear))}."
            )
        return names
    if wanted == "all-linear":
        return sorted(linear)
    names = [name.strip() for name in wanted.split(",")]
    for name in names:
        if name not in linear:
            raise PressError(
                f"finetune.target_modules: the model has no linear layer {name!r}. It has {', '.join(sorted(linear))}."
            )
    return names


def _tidy(out: Path) -> None:
    """Leave the adapter alone in ``out``: Olive nests it, PEFT adds an empty card, and lists come unordered."""
    for path in (out / "adapter").iterdir():
        path.rename(out / path.name)
    (out / "adapter").rmdir()
    (out / "README.md").unlink(missing_ok=True)
    path = out / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
