"""What a training step takes on a GPU beside what is asked for it; adapters by activations kept and computed again."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from prepared_rows import TINY, settings, travel
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from olivepress.finetune import lora
from olivepress.finetune.activations import activation_bytes

SIZES = {"hidden_size": 1024, "intermediate_size": 2736, "num_hidden_layers": 6, "num_attention_heads": 16}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("rows", "longest"), [(4, 256), (1, 1024), (8, 64)])
@pytest.mark.parametrize("kind", [(LlamaConfig, LlamaForCausalLM), (Phi3Config, Phi3ForCausalLM)])
def test_a_step_takes_no_more_than_is_asked_for(kind, rows: int, longest: int, dtype: torch.dtype) -> None:
    config = kind[0](**SIZES, vocab_size=32000, pad_token_id=0, attn_implementation="sdpa")
    model = kind[1](config).to("cuda", dtype)
    model = get_peft_model(model, LoraConfig(r=8, lora_dropout=0.05, target_modules="all-linear")).train()
    ids = torch.randint(1, 32000, (rows, longest), device="cuda")
    model(input_ids=ids, labels=ids).loss.backward()  # cuBLAS's workspace and the gradients stay
    model.zero_grad(set_to_none=False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model(input_ids=ids, labels=ids).loss.backward()
    taken = torch.cuda.max_memory_allocated() - before
    asked = activation_bytes(config, rows * longest, bits=16 if dtype == torch.bfloat16 else 32)
    assert asked / 4 < taken <= asked


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_activations_kept_or_computed_again_make_the_same_adapter(tmp_path: Path, monkeypatch, dtype: str) -> None:
    rows = travel(36)
    asked = []

    def adapter(name: str, *, room: bool) -> bytes:
        monkeypatch.setattr(lora, "room_for", lambda *_, **__: asked.append(name) or room)
        wanted = settings(device="cuda", dtype=dtype, dropout=0.1, gradient_checkpointing=True)
        lora.finetune(TINY, rows[:24], rows[24:], tmp_path / name, wanted)
        return (tmp_path / name / "adapter_model.safetensors").read_bytes()

    assert adapter("kept", room=True) == adapter("again", room=False)
    assert asked == ["kept", "again"]
