"""Training that has run away ends at once: at the first loss or gradient that is not a finite number.

Imported by a process that trains: it loads transformers.
"""

import math
from typing import Any

import torch
from transformers import TrainerCallback

from olivepress.core.errors import PressError

LOGGED = {"loss": "training loss", "eval_loss": "held-out loss", "grad_norm": "gradient's norm"}


class FiniteLoss(TrainerCallback):
    """Raises PressError for a loss or gradient, or at the end a weight, that is NaN or infinite."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        for key, what in LOGGED.items():
            value = (logs or {}).get(key, 0.0)
            if key == "grad_norm" and args.fp16:
                continue  # mixed precision tries out how far it can scale, and leaves out the steps that overflow
            if not math.isfinite(value):
                _stop(f"the {what} is {value} at step {state.global_step} of {state.max_steps}", args, state)

    def on_train_end(self, args: Any, state: Any, control: Any, model: torch.nn.Module, **_: Any) -> None:
        for name, weight in model.named_parameters():
            if weight.requires_grad and not bool(torch.isfinite(weight).all()):
                _stop(f"after step {state.global_step} the weight {name} is not finite", args, state)


def _stop(found: str, args: Any, state: Any) -> None:
    if state.global_step == 0:
        raise PressError(
            f"finetune: {found}, before any training: the model itself is broken. Look at quantize and fetch."
        )
    raise PressError(
        f"finetune: {found}: training has run away. Lower finetune.learning_rate (it is {args.learning_rate:g}), or "
        "the adapter's alpha, or take finetune.dtype float32."
    )
