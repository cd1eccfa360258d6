"""LoRA fine-tuning (Hu et al. 2021, arXiv:2106.09685) by Olive's pass, on the dequantized checkpoint.

Olive's pass creates the adapter, sets up the transformers Trainer and saves; what it would load and how it would
read its data are ours: the model comes dequantized, in memory, and rows stay rows instead of being packed to 1024.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from olivepress import lora_parallel
from olivepress.dequantize import load_model
from olivepress.errors import PressError
from olivepress.olive_pass import run_pass
from olivepress.outputs import remove
from olivepress.pretrained import load_tokenizer


@dataclass(frozen=True)
class LoraSettings:
    """Names are PEFT's and the Trainer's. ``target_modules``: "default" (Olive's for the architecture),
    "all-linear", or names joined by commas. ``sequence_length`` in tokens; longer rows are cut. ``batch_size`` is of
    a whole step, shared out among ``processes``; ``parallel`` says how: none, ddp or fsdp."""

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


def finetune(
    model_folder: Path,
    train: list[str],
    held_out: list[str],
    out: Path,
    settings: LoraSettings,
    *,
    trust_remote_code: bool = False,
) -> list[dict[str, float]]:
    """Train an adapter on the texts ``train``; write a plain PEFT adapter folder to ``out``.

    Returns the Trainer's log: dicts with "step" and "loss" or "eval_loss" (mean nats per token).
    Raises PressError if a target module does not exist in the model, or the processes cannot run so.
    """
    lora_parallel.check(settings.processes, settings.parallel, settings.batch_size, settings.device)
    log_folder = out.parent / f"{out.name}.log"
    arguments = (model_folder, train, held_out, out, log_folder, settings, trust_remote_code)
    try:
        if settings.processes == 1:
            _train(*arguments)
        else:
            lora_parallel.launch(_train, *arguments, processes=settings.processes)
        state = json.loads((log_folder / f"checkpoint-{settings.steps}" / "trainer_state.json").read_text())
    finally:
        remove(log_folder)
    _tidy(out)
    return state["log_history"]


def _train(
    model_folder: Path,
    train: list[str],
    held_out: list[str],
    out: Path,
    log_folder: Path,
    settings: LoraSettings,
    trust_remote_code: bool,
) -> None:
    """Train and save in this process, or as one of several."""
    import torch
    import transformers
    from datasets import Dataset
    from olive.passes.pytorch.lora import LoRA

    transformers.set_seed(settings.seed)  # Olive creates the adapter unseeded; the Trainer seeds only itself
    tokenizer = load_tokenizer(model_folder, trust_remote_code=trust_remote_code)
    model = load_model(
        model_folder,
        # float16 trains in mixed precision, over float32 weights
        dtype=torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32,
        # fsdp shares the weights out before they go to the GPU, which may not hold them all
        device="cpu" if settings.parallel == "fsdp" else settings.device,
        trust_remote_code=trust_remote_code,
    )
    targets = target_modules(model, settings.target_modules)
    if settings.parallel == "fsdp":
        lora_parallel.shard(model, settings.device)

    def encode(texts: list[str]) -> Dataset:
        encoded = tokenizer(texts, add_special_tokens=False, truncation=True, max_length=settings.sequence_length)
        rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in encoded["input_ids"]]
        return Dataset.from_list(rows).with_format("torch")

    class InMemoryLoRA(LoRA):
        def load_base_pytorch_model(self, *_: Any, **__: Any) -> Any:
            return model

        @staticmethod
        def get_datasets(_: Any) -> tuple[Dataset, Dataset]:
            return encode(train), encode(held_out)

    class ParallelLoRA(InMemoryLoRA):
        def train_and_save_new_model(
            self, lora_model: Any, tokenizer: Any, config: Any, output_model: Any, output_model_path: str
        ) -> Any:
            collate = partial(self.collate_batch, tokenizer=tokenizer)
            folder = Path(output_model_path) / "adapter"
            # both as Olive does for one process
            torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
            config.training_args.extra_args["fp16"] = settings.dtype == "float16"
            arguments = config.training_args.create_training_args()
            lora_parallel.train_and_save(lora_model, arguments, *self.get_datasets(config), collate, folder)
            output_model.set_resource("adapter_path", folder)
            return output_model

    config = {
        "r": settings.rank,
        "alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": targets,
        "torch_dtype": settings.dtype,
        "train_data_config": {"name": "train"},
        "eval_data_config": {"name": "held_out"},
        "training_args": {
            "output_dir": str(log_folder),
            "max_steps": settings.steps,
            "per_device_train_batch_size": settings.batch_size // settings.processes,
            "per_device_eval_batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "gradient_checkpointing": settings.gradient_checkpointing,
            "logging_steps": 1,
            "eval_strategy": "steps",
            "eval_steps": settings.eval_steps,
            "eval_on_start": True,
            # one checkpoint at the end, for the log in it
            "save_strategy": "steps",
            "save_steps": settings.steps,
            "save_only_model": True,
            "seed": settings.seed,
            "data_seed": settings.seed,
            "use_cpu": settings.device == "cpu",
            "dataloader_pin_memory": settings.device != "cpu",
            "disable_tqdm": False,
        },
    }
    if settings.processes > 1:
        config["training_args"] |= {
            "ddp_backend": "gloo" if settings.device == "cpu" else "nccl",
            "ddp_find_unused_parameters": False,
        }
    lora_pass = InMemoryLoRA if settings.processes == 1 else ParallelLoRA
    run_pass(lora_pass, config, model_folder, out, trust_remote_code=trust_remote_code)


def target_modules(model: Any, wanted: str) -> list[str] | None:
    """The names for PEFT: None lets Olive choose; every name is checked against the model's linear layers."""
    import torch

    if wanted == "default":
        return None
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
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
