"""The adapter that is saved is the best one that was evaluated. Imported by a process that trains: transformers."""

from typing import Any

import torch
from transformers import TrainerCallback


class BestAdapter(TrainerCallback):
    """Keeps the trained weights of the evaluation with the lowest held-out loss, and puts them back at the end.

    The evaluation before training counts, which transformers' own ``load_best_model_at_end`` leaves out: more steps
    never make the saved adapter worse than an evaluated one. ``patience`` evaluations in a row without a lower loss end
    the training; 0: none do. The step and its loss are the state's ``best_global_step`` and ``best_metric``.
    """

    def __init__(self, patience: int = 0) -> None:
        self.patience = patience
        self.without_gain = 0
        self.weights: dict[str, torch.Tensor] = {}  # on the CPU: an adapter is small

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], model: torch.nn.Module, **_: Any
    ) -> None:
        loss = metrics["eval_loss"]
        if state.best_metric is None or loss < state.best_metric:
            state.best_metric, state.best_global_step = loss, state.global_step
            self.weights = {name: weight.detach().cpu().clone() for name, weight in _trained(model)}
            self.without_gain = 0
        else:
            self.without_gain += 1
            if self.patience and self.without_gain >= self.patience:
                control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, model: torch.nn.Module, **_: Any) -> None:
        with torch.no_grad():
            for name, weight in _trained(model):
                weight.copy_(self.weights[name])


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
