"""transformers' Trainer on the tokens that count, in one process or as one of several; trl's for preferences.

Imported by a process that trains: it loads transformers.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.loss.loss_utils import ForCausalLMLoss

from olivepress.core.errors import PressError
from olivepress.finetune.best_adapter import BestAdapter
from olivepress.finetune.by_length import ByLength
from olivepress.finetune.finite_loss import FiniteLoss
from olivepress.finetune.lora import LoraSettings, training_arguments
from olivepress.finetune.rows import IGNORED, Row, collate, counted, following, length, pack

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Watch = Callable[[dict[str, float]], None]  # is given each entry of the training's log, as it comes


class Watched(transformers.TrainerCallback):
    """Hands each entry of the log to somebody, from the first process alone."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if state.is_world_process_zero:
            self.watch({**(logs or {}), "step": state.global_step})


class AnswerTrainer(ByLength):
    """Losses are means over the tokens that count, of a whole step or of all held-out rows.

    transformers' own evaluation is a mean of batches, whatever number of tokens each has, and shares the rows out among
    the processes, the last batch filled up with rows of the first. Here every process takes all of them.
    """

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        self.model.eval()
        total, tokens = 0.0, 0
        size = self.args.per_device_eval_batch_size
        for batch in torch.utils.data.DataLoader(self.eval_dataset, size, collate_fn=self.data_collator):
            inputs = self._prepare_inputs(batch)
            count = int((inputs["labels"][:, 1:] != IGNORED).sum())
            with torch.no_grad(), self.compute_loss_context_manager():
                total += self.compute_loss(self.model, inputs).item() * count
            tokens += count
        # one number for all processes: they stop together, or wait for one another for ever
        loss = torch.tensor([total / tokens], device=self.args.device)
        metrics = {"eval_loss": self.accelerator.gather(loss)[0].item()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def answer_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
    """Cross entropy in nats, summed over the tokens that count and divided by ``num_items_in_batch``, else their mean.

    The model is not asked for it: some leave ``num_items_in_batch`` out, and then the parts of a step would weigh the
    same, however many tokens each has. Logits are of all positions or, by ``logits_to_keep``, of those that count.
    """
    logits, targets = outputs["logits"], following(labels)
    if logits.shape[1] != targets.shape[1]:
        targets = targets[:, counted(targets)]
    return ForCausalLMLoss(
        logits, labels, logits.shape[-1], num_items_in_batch=num_items_in_batch, shift_labels=targets.contiguous()
    )


def train(
    model: "PeftModel",
    tokenizer: Any,
    arguments: dict[str, Any],
    folder: Path,
    *,
    rows: tuple[list[Any], list[Any]],
    settings: LoraSettings,
    watch: Watch | None,
) -> None:
    """Train ``model`` on ``rows`` (to train on, held out); the first process saves the best adapter to ``folder``.

    ``arguments`` of transformers' Trainer are added to those of ``settings``. The Trainer's state goes to
    trainer_state.json in its ``output_dir``.
    """
    arguments = {**training_arguments(settings), **arguments}
    # FiniteLoss before BestAdapter: what it looks at are the last weights
    callbacks = [FiniteLoss(), BestAdapter(settings.early_stopping), *([Watched(watch)] if watch else [])]
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    to_train, held_out = rows
    if settings.method == "dpo":
        from olivepress.finetune.preferences import preference_trainer

        trainer = preference_trainer(model, rows, settings, tokenizer, arguments, padding, callbacks)
    else:
        if settings.packing:
            to_train = pack(to_train, settings.sequence_length)
            check_packing(model, to_train, padding)
        # a fifth of a small model is its head, and half of a row its prompt; a model's own code may not know it
        keeps = "logits_to_keep" in signature(model.get_base_model().forward).parameters
        trainer = AnswerTrainer(
            model,
            transformers.TrainingArguments(**arguments),
            train_dataset=to_train,
            eval_dataset=held_out,
            data_collator=partial(collate, padding=padding, logits_to_keep=keeps),
            compute_loss_func=answer_loss,
            callbacks=callbacks,
        )
    if settings.group_by_length:
        trainer.group_by_length([length(row) for row in to_train], settings.batch_size)
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.state.save_to_json(str(Path(arguments["output_dir"]) / "trainer_state.json"))
        adapter = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        model.save_pretrained(folder, save_embedding_layers=False, state_dict=adapter)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # Olive goes on to look at the folder


def check_packing(model: "PreTrainedModel | PeftModel", packs: list[Row], padding: int) -> None:
    """PressError if this architecture lets rows of one sequence see each other: a second row, with and without it.

    Positions alone tell rows apart, and not every model in transformers reads them.
    """
    first = next((found for found in packs if len(found["seq_lengths"]) > 1), None)
    if first is None:
        return
    start, size = first["seq_lengths"][:2]
    alone = {name: first[name][start : start + size] for name in ("input_ids", "labels")}
    training = model.training
    model.eval()
    with torch.no_grad():
        there, here = (_logits(model, row, padding) for row in (first, alone))
    model.train(training)
    difference = float((there[start : start + size] - here).norm() / here.norm())
    if not difference < 0.02:  # bfloat16 has eight bits
        raise PressError(
            f"finetune.packing: {model.config.model_type} does not keep the rows of a sequence apart: the logits of "
            f"a row differ by {difference:.0%} beside another. Set it to false."
        )


def _logits(model: "PreTrainedModel | PeftModel", row: Row, padding: int) -> torch.Tensor:
    inputs = collate([row], padding)
    del inputs["labels"]
    return model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).logits[0].float()
