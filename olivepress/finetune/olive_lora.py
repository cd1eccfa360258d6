"""Olive's LoRA pass on a model that is in memory, trained by a Trainer of ours.

The pass creates the adapter and readies the model. Its own Trainer takes no callbacks and no collator, means losses by
batch, knows one process, and saves the last adapter and not the best, so that part is ``trainer.train``.

Imported by a process that trains: it loads Olive and transformers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from olive.passes.pytorch.lora import LoRA

from olivepress.core.errors import PressError
from olivepress.core.lora_variants import matches

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# (model with an adapter, tokenizer, arguments for transformers' Trainer, folder for the adapter)
Train = Callable[["PeftModel", Any, dict[str, Any], Path], None]


class LoRAInMemory(LoRA):
    """Where Olive's pass would load a model, this has it already; where it would train, ``train`` does."""

    base: "ClassVar[PreTrainedModel]"
    variant: ClassVar[dict[str, Any]]  # more of PEFT's LoraConfig than the pass knows
    train: ClassVar[Train]

    @classmethod
    def of(cls, base: "PreTrainedModel", variant: dict[str, Any], train: Train) -> type[Self]:
        """The pass on these. A class, because Olive makes the instance itself."""
        return type(cls.__name__, (cls,), {"base": base, "variant": variant, "train": staticmethod(train)})

    def load_base_pytorch_model(self, *_: Any, **__: Any) -> "PreTrainedModel":
        return self.base

    @classmethod
    def get_peft_model(cls, model: Any, config: Any, config_kwargs: dict[str, Any] | None = None) -> "PeftModel":
        found = LoRA.get_peft_model(model, config, {**(config_kwargs or {}), **cls.variant})
        for key in ("rank_pattern", "alpha_pattern"):
            check_patterns(key, cls.variant.get(key, {}), found.targeted_module_names)
        return found

    def train_and_save_new_model(
        self, lora_model: Any, tokenizer: Any, config: Any, output_model: Any, output_model_path: str
    ) -> Any:
        folder = Path(output_model_path) / "adapter"
        torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32  # as Olive does
        arguments = {
            # false where the model has no checkpointing
            "gradient_checkpointing": config.training_args.gradient_checkpointing,
            "fp16": self.get_torch_dtype(config.torch_dtype) == torch.float16,
            "output_dir": config.training_args.output_dir,
        }
        type(self).train(lora_model, tokenizer, arguments, folder)
        output_model.set_resource("adapter_path", folder)
        return output_model


def check_patterns(key: str, patterns: dict[str, float], modules: list[str]) -> None:
    """PressError for a pattern of no adapted module, or for two of one: PEFT takes the first, and saves them sorted."""
    for module in modules:
        both = [pattern for pattern in patterns if matches(pattern, module)]
        if len(both) > 1:
            raise PressError(
                f"finetune.{key}: {' and '.join(both)} are both {module}: write patterns that are disjoint."
            )
    for pattern in patterns:
        if not any(matches(pattern, module) for module in modules):
            known = ", ".join(sorted({module.rpartition(".")[2] for module in modules}))
            raise PressError(f"finetune.{key}: {pattern} is no module with an adapter. There are {known}.")
