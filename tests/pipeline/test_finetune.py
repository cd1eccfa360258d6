"""Training on the tiny base: what counts, which adapter is kept, schedules, packing, variants of LoRA, preferences."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import run_stage
from peft import PeftModel
from prepared_rows import TINY, preferences, settings, travel
from safetensors.torch import load_file

from olivepress.core.errors import PressError
from olivepress.core.prepared import write_prepared
from olivepress.export.peft_adapter import read_peft
from olivepress.finetune.lora import finetune, target_modules
from olivepress.finetune.rows import collate, encode, length, pack
from olivepress.modeling.dequantize import load_model

ROWS = travel(36)
TRAIN, HELD_OUT = ROWS[:24], ROWS[24:]

pytestmark = pytest.mark.usefixtures("one_thread")


def answer_loss(adapter: Path | None) -> float:
    """Nats a token of the held-out answers, a row at a time."""
    model = load_model(TINY, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    total, count = 0.0, 0
    for row in HELD_OUT:
        ids = row.input_ids[:64]
        start, end = row.answers[0]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, start - 1 : min(end, 64) - 1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[start:end]), reduction="sum").item()
        count += len(logits)
    return total / count


def same(first: Path, second: Path) -> bool:
    """Whether two adapters have the same bytes."""
    return all(
        (first / name).read_bytes() == (second / name).read_bytes()
        for name in ("adapter_model.safetensors", "adapter_config.json")
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An adapter with the settings as they are: its folder and how its training went."""
    folder = tmp_path_factory.mktemp("plain") / "adapter"
    return folder, finetune(TINY, TRAIN, HELD_OUT, folder, settings())


def test_losses_are_those_of_the_answers_and_the_saved_adapter_is_the_best(plain):
    folder, training = plain
    before, *_, after = (loss for _, loss in training.curve("eval_loss"))
    assert answer_loss(None) == pytest.approx(before, rel=1e-5)
    assert answer_loss(folder) == pytest.approx(after, rel=1e-5)
    assert training.best_step == 4
    metrics = training.metrics()
    assert metrics["held_out_loss"]["best"] == metrics["held_out_loss"]["after"] < metrics["held_out_loss"]["before"]
    assert metrics["held_out"]["rows"] == 12
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_train_on_decides_what_the_gradient_sees(plain, tmp_path):
    _, answers = plain
    other = finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", settings(train_on="all"))
    assert other.train.tokens > 1.2 * answers.train.tokens
    assert other.held_out.tokens == answers.held_out.tokens, "the best is the best at answers"
    assert other.curve("eval_loss")[0] == answers.curve("eval_loss")[0]
    first, second = (training.curve("loss")[0][1] for training in (answers, other))
    assert abs(first - second) > 0.05, "the first loss is of the same rows and weights"


def test_more_steps_never_make_the_saved_adapter_worse(tmp_path):
    """A rate that is too high after a few steps: what is saved is what was best."""
    wild = settings(learning_rate=0.3, schedule="constant", warmup_ratio=0.0, steps=8, eval_steps=1)
    training = finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", wild)
    curve = dict(training.curve("eval_loss"))
    assert training.best_step == min(curve, key=curve.get) != 8
    assert answer_loss(tmp_path / "adapter") == pytest.approx(min(curve.values()), rel=1e-5)


def test_where_nothing_is_better_the_untrained_adapter_is_kept_and_said(tmp_path, capsys):
    training = finetune(
        TINY, TRAIN, HELD_OUT, tmp_path / "adapter", settings(learning_rate=50, warmup_ratio=0.0, steps=1)
    )
    assert training.best_step == 0
    assert "none of 1 steps made the adapter better on held-out rows" in capsys.readouterr().err
    weights = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert all(not weight.any() for name, weight in weights.items() if "lora_B" in name)


def test_it_stops_after_evaluations_without_a_gain(tmp_path):
    never = settings(learning_rate=1e-30, steps=9, eval_steps=1, early_stopping=2)
    training = finetune(TINY, TRAIN, HELD_OUT[:2], tmp_path / "adapter", never)
    assert [step for step, _ in training.curve("eval_loss")] == [0, 1, 2]
    assert training.metrics()["steps"] == 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0, 0.5, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0, 0.5, 1, *((1 + math.cos(math.pi * quarter / 4)) / 2 for quarter in (1, 2, 3))]),
    ],
)
def test_the_rate_warms_up_and_follows_its_schedule(tmp_path, schedule, expected):
    wanted = settings(schedule=schedule, warmup_ratio=0.3, steps=6, eval_steps=6, batch_size=2, eval_rows=1)
    training = finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", wanted)
    rates = [rate / 1e-2 for _, rate in training.curve("learning_rate")]
    assert training.held_out.counts()["rows"] == 1
    assert rates == pytest.approx(expected)


def test_parts_of_a_step_weigh_by_their_tokens(plain, tmp_path):
    """Rows differ in length: a mean of the parts' means would train another adapter."""
    folder, _ = plain
    finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", settings(gradient_accumulation_steps=4))
    expected, found = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "adapter"))
    for name, weight in expected.items():
        assert (weight - found[name]).norm() < 1e-3 * weight.norm(), name


def test_packed_rows_have_the_loss_of_rows_alone():
    rows = encode(dict(enumerate(ROWS, 1)), 64, "answers", "rows").rows
    packs = pack(rows, 160)
    assert len(packs) <= len(rows) / 2
    model = load_model(TINY, dtype=torch.float32)
    losses = []
    for batches in ([[row] for row in rows], [packs]):
        total, count = 0.0, 0
        for batch in batches:
            inputs = collate(batch, padding=0)
            tokens = int((inputs["labels"][:, 1:] != -100).sum())
            with torch.no_grad():
                total += model(**inputs).loss.item() * tokens
            count += tokens
        losses.append((total / count, count))
    assert losses[0][1] == losses[1][1]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_logits_that_do_not_count_are_not_computed_and_loss_and_gradients_are_the_same(packed):
    from olivepress.finetune.trainer import answer_loss

    rows = encode(dict(enumerate(ROWS[:8], 1)), 64, "answers", "rows").rows
    rows = pack(rows, 160) if packed else rows
    model = load_model(TINY, dtype=torch.float64)
    found = []
    for few in (False, True):
        inputs = collate(rows, padding=0, logits_to_keep=few)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        model.zero_grad()
        loss = answer_loss(outputs, labels)
        loss.backward()
        found.append((outputs.logits.shape[1], loss.item(), model.model.layers[0].self_attn.o_proj.weight.grad.clone()))
    (all_places, loss, gradient), (places, same_loss, same_gradient) = found
    assert places < 0.9 * all_places
    assert same_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-4, atol=1e-8)


def test_packed_training_sees_every_row_and_the_same_adapter_comes_again(tmp_path):
    wanted = settings(packing=True, sequence_length=128, batch_size=2)
    for name in ("one", "two"):
        training = finetune(TINY, TRAIN, HELD_OUT, tmp_path / name, wanted)
    assert training.metrics()["held_out_loss"]["best"] < training.metrics()["held_out_loss"]["before"] - 0.1
    assert same(tmp_path / "one", tmp_path / "two")


def drawn(monkeypatch, collator: tuple[Any, str], out: Path, sides: tuple[list, list], **changes: Any) -> list[list]:
    """The rows of each step of a training, as ``collator`` gets them; it evaluates before and after."""
    steps, called, wanted = [], getattr(*collator), settings(sequence_length=128, **changes)

    def watched(*arguments: Any, **named: Any) -> Any:
        steps.append(next(rows for rows in arguments if isinstance(rows, list)))
        return called(*arguments, **named)

    monkeypatch.setattr(*collator, watched)
    finetune(TINY, *sides, out, wanted)
    held_out = -(-len(sides[1]) // wanted.batch_size)
    return steps[held_out:-held_out]


def test_rows_of_a_step_are_about_as_long_and_every_row_has_its_turn(tmp_path, monkeypatch):
    from olivepress.finetune import trainer

    rows, found = ROWS[:32], {}
    for grouped in (False, True):
        changes = {"steps": 16, "batch_size": 2, "eval_steps": 16, "group_by_length": grouped}
        steps = drawn(monkeypatch, (trainer, "collate"), tmp_path / str(grouped), (rows, ROWS[32:]), **changes)
        assert [len(step) for step in steps] == [2] * 16
        assert sorted(row["input_ids"] for step in steps for row in step) == sorted(row.input_ids for row in rows)
        found[grouped] = sum(len(step) * max(map(length, step)) for step in steps)
    tokens = sum(len(row.input_ids) for row in rows)
    assert found[True] - tokens < 0.75 * (found[False] - tokens), "padding"


def test_preferences_are_grouped_by_the_longer_answer(tmp_path, monkeypatch):
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    pairs = preferences(36)
    collator, found = (DataCollatorForPreference, "torch_call"), {}
    for grouped in (False, True):
        changes = {"method": "dpo", "batch_size": 2, "steps": 16, "eval_steps": 16, "group_by_length": grouped}
        steps = drawn(monkeypatch, collator, tmp_path / str(grouped), (pairs[:32], pairs[32:]), **changes)
        assert [len(step) for step in steps] == [2] * 16
        found[grouped] = sum(2 * max(map(length, step)) - sum(map(length, step)) for step in steps)
    assert found[True] < 0.75 * found[False], "padding"


def test_a_model_whose_packed_rows_see_each_other_is_refused():
    """Mamba's state goes on from row to row, whatever their positions are."""
    from transformers import MambaConfig, MambaForCausalLM

    from olivepress.finetune.trainer import check_packing

    packs = pack(encode(dict(enumerate(ROWS[:4], 1)), 64, "answers", "rows").rows, 256)
    check_packing(load_model(TINY, dtype=torch.float32), packs, 0)
    mamba = MambaForCausalLM(MambaConfig(vocab_size=4096, hidden_size=16, num_hidden_layers=2))
    with pytest.raises(PressError, match=r"finetune\.packing: mamba does not keep the rows of a sequence apart"):
        check_packing(mamba, packs, 0)


def test_variants_of_lora_are_what_peft_makes_of_them(tmp_path):
    wanted = settings(
        rslora=True,
        target_modules="all-linear",
        rank_pattern=r"qkv_proj=2, layers\.0\.mlp\.down_proj=6",
        alpha_pattern="o_proj=5",
    )
    finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", wanted)
    adapter = read_peft(tmp_path / "adapter")
    assert {name: a.shape[0] for (layer, name), (a, _) in adapter.items() if layer == 0} == {
        "qkv_proj": 2,
        "o_proj": 4,
        "gate_up_proj": 4,
        "down_proj": 6,
    }
    model = PeftModel.from_pretrained(load_model(TINY, dtype=torch.float32), tmp_path / "adapter")
    for (layer, name), (a, b) in adapter.items():
        part = model.base_model.model.model.layers[layer]
        module = getattr(part.mlp if name in ("gate_up_proj", "down_proj") else part.self_attn, name)
        torch.testing.assert_close(torch.from_numpy(b @ a), module.get_delta_weight("default"))
    assert module.scaling["default"] == pytest.approx(8 / math.sqrt(adapter[layer, name][0].shape[0]))


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            {"rank_pattern": "q_proj=2"},
            r"finetune\.rank_pattern: q_proj is no module with an adapter\. There are .*qkv_",
        ),
        ({"alpha_pattern": "qkv_proj=2, .*proj=3"}, r"finetune\.alpha_pattern: qkv_proj and \.\*proj are both model\."),
    ],
)
def test_patterns_that_match_nothing_or_twice_are_refused(tmp_path, patterns, message):
    with pytest.raises(PressError, match=message):
        finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", settings(**patterns))


def test_a_default_is_found_where_nobody_knows_one():
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "pad_token_id": 0}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    granite = transformers.GraniteForCausalLM(transformers.GraniteConfig(**sizes, **heads))
    assert target_modules(granite, "default") == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert target_modules(load_model(TINY, dtype=torch.float32), "default") is None, "Olive or PEFT know Phi-3"
    mamba = transformers.MambaForCausalLM(transformers.MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1))
    mamba.config.model_type = "unheard-of"
    with pytest.raises(PressError, match=r"no default for unheard-of\. Name its layers: .*x_proj"):
        target_modules(mamba, "default")


def test_who_watches_gets_the_log_as_it_comes(tmp_path):
    seen = []
    training = finetune(TINY, TRAIN, HELD_OUT, tmp_path / "adapter", settings(steps=2), watch=seen.append)
    assert [entry["step"] for entry in seen if "eval_loss" in entry] == [0, 2]
    assert [(entry["step"], entry["loss"]) for entry in seen if "loss" in entry] == training.curve("loss")


def test_preferences_train_an_adapter_that_prefers_and_does_again(tmp_path):
    pairs = preferences(20)
    wanted = settings(method="dpo", batch_size=4, beta=0.1, learning_rate=5e-3)
    for name in ("one", "two"):
        training = finetune(TINY, pairs[:12], pairs[12:], tmp_path / name, wanted)
    metrics = training.metrics()
    assert metrics["preference_loss"]["before"] == pytest.approx(math.log(2), abs=1e-4), "the reference is the base"
    assert metrics["preference_loss"]["best"] < 0.5
    assert metrics["reward_accuracy"]["best"] == 1
    assert metrics["reward_margin"]["best"] > 0.2
    assert metrics["reward_margin"]["before"] == 0
    assert "held_out_loss" not in metrics
    assert same(tmp_path / "one", tmp_path / "two")
    names = load_file(tmp_path / "one/adapter_model.safetensors")
    assert all(".ref." not in name for name in names)
    assert json.loads((tmp_path / "one/adapter_config.json").read_text())["peft_type"] == "LORA"
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_stage_writes_numbers_and_a_curve(tmp_path):
    pairs = preferences(8)
    for side, rows in (("train", pairs[:6]), ("held_out", pairs[6:])):
        write_prepared(tmp_path / f"{side}.jsonl", rows)
    options = "--method dpo --steps 2 --batch-size 2 --eval-steps 1 --sequence-length 64 --rank-pattern qkv_proj=3"
    places = {"--out": "out", "--quality": "quality.json", "--plot": "curve.csv"}
    done = run_stage(
        *("finetune", "--model", TINY, "--data", tmp_path, "--dtype", "float32", *options.split()),
        *(part for option, name in places.items() for part in (option, tmp_path / name)),
    )
    assert done.exit_code == 0, done.output
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert quality["preference_loss"]["before"] == pytest.approx(0.6931, abs=1e-4)
    assert (quality["steps"], quality["train"]["rows"], quality["held_out"]["rows"]) == (2, 6, 2)
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert lines[0] == "rows,step,loss"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        *([rows, str(step)] for rows, steps in (("training", (1, 2)), ("held out", (0, 1, 2))) for step in steps)
    ]
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["rank_pattern"] == {"qkv_proj": 3}


def test_activations_kept_or_computed_again_make_the_same_adapter(tmp_path):
    kept, again = (
        finetune(TINY, TRAIN, HELD_OUT, tmp_path / str(on), settings(dropout=0.1, gradient_checkpointing=on))
        for on in (False, True)
    )
    assert kept.log[:2] == again.log[:2]
    assert same(tmp_path / "False", tmp_path / "True")
