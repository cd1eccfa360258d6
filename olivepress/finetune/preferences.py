"""Training on preferences by trl: direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290).

Imported by a process that trains: it loads trl and transformers.
"""

from typing import TYPE_CHECKING, Any

import transformers
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from olivepress.finetune.by_length import ByLength

if TYPE_CHECKING:
    from peft import PeftModel

    from olivepress.finetune.lora import LoraSettings


class PreparedDPO(ByLength, DPOTrainer):
    """trl's trainer on rows that are token ids already; it would tokenize texts with a template that it finds."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def preference_trainer(
    model: "PeftModel",
    rows: tuple[list[Any], list[Any]],
    settings: "LoraSettings",
    tokenizer: Any,
    arguments: dict[str, Any],
    padding: int,
    callbacks: list[transformers.TrainerCallback],
) -> PreparedDPO:
    """trl's trainer on ``rows`` (to train on, held out); the reference is the same weights with the adapter off."""
    train, held_out = rows
    # trl's held-out metrics are means of batches: with batches of one size they are means of the rows
    size = max(size for size in range(1, arguments["per_device_eval_batch_size"] + 1) if len(held_out) % size == 0)
    trainer = PreparedDPO(
        model,
        args=DPOConfig(**{**arguments, "per_device_eval_batch_size": size}, beta=settings.beta, max_length=None),
        data_collator=DataCollatorForPreference(pad_token_id=padding, max_length=settings.sequence_length),
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(held_out),
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    # of an adapter that is there already trl makes a copy as the reference; ours starts at zero, which is the base
    model.delete_adapter("ref")
    return trainer
