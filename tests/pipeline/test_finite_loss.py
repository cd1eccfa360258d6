"""Training that runs away ends at the first loss that is not finite, and leaves no adapter."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from prepared_rows import TINY, prepared, settings

from olivepress.core.errors import PressError
from olivepress.finetune.lora import finetune

SETTINGS = settings(learning_rate=1e8, batch_size=2)
ROWS = [prepared(f"what is {number}", f"it is {number}") for number in range(8)]


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}])
def test_it_says_the_step_and_what_to_lower(tmp_path, one_thread, changes):
    said = r"(loss|norm) is (nan|inf) at step \d of 4: training has run away\. Lower finetune\.learning_rate \(it is 1e"
    with pytest.raises(PressError, match=said):
        finetune(TINY, ROWS, ROWS[:2], tmp_path / "out", replace(SETTINGS, **changes))
    assert not (tmp_path / "out/adapter_model.safetensors").exists()


def test_a_finite_loss_is_left_alone(tmp_path, one_thread):
    training = finetune(TINY, ROWS, ROWS[:2], tmp_path / "out", replace(SETTINGS, learning_rate=1e-3))
    assert len(training.curve("loss")) == 4


def test_a_gradient_counts_too_but_not_where_mixed_precision_tries_its_scale():
    from olivepress.finetune.finite_loss import FiniteLoss

    arguments, state = SimpleNamespace(learning_rate=1e-3, fp16=False), SimpleNamespace(global_step=3, max_steps=9)
    with pytest.raises(PressError, match="the gradient's norm is inf at step 3 of 9: training has run away"):
        FiniteLoss().on_log(arguments, state, None, {"loss": 1.0, "grad_norm": float("inf")})
    arguments.fp16 = True
    FiniteLoss().on_log(arguments, state, None, {"loss": 1.0, "grad_norm": float("inf")})


def test_before_any_step_it_is_the_model_and_at_the_end_the_weights_count():
    import torch

    from olivepress.finetune.finite_loss import FiniteLoss

    arguments, state = SimpleNamespace(learning_rate=1e-3, fp16=False), SimpleNamespace(global_step=0, max_steps=9)
    with pytest.raises(PressError, match="before any training: the model itself is broken"):
        FiniteLoss().on_log(arguments, state, None, {"eval_loss": float("nan")})
    model = torch.nn.Linear(2, 2)
    state.global_step = 9
    FiniteLoss().on_train_end(arguments, state, None, model)
    model.bias.data[0] = float("inf")
    with pytest.raises(PressError, match="after step 9 the weight bias is not finite"):
        FiniteLoss().on_train_end(arguments, state, None, model)
