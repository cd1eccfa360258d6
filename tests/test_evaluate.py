"""What evaluation computes: rows, PyTorch's losses and answers, divergences, ROUGE-L, intervals, figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from olivepress.core.errors import PressError
from olivepress.core.prepared import Prepared, spread
from olivepress.core.tokenizer import load_tokenizer
from olivepress.evaluate.answers import exact_match, rouge_l
from olivepress.evaluate.exported import log_softmax
from olivepress.evaluate.figures import intervals, quality, samples
from olivepress.evaluate.intervals import estimate, exponential, mean
from olivepress.evaluate.pytorch import TorchModel, TorchSettings
from olivepress.evaluate.reference import frame, held_out, measured
from olivepress.evaluate.rows import LOGITS, Row, batches, chosen
from olivepress.evaluate.scores import KEPT, SCORES, TOP, Question, Scores, Top, divergence, load_top, save_top

BASE = Path(__file__).parents[1] / "data/tiny-phi3"
CPU = TorchSettings("float32", "cpu", trust_remote_code=False)
IDS = np.random.default_rng(3).integers(5, 2000, (5, 40)).tolist()
# rows of several lengths, two with several answers
ROWS = [
    Row.of(ids[:length], spans, 1024)
    for ids, length, spans in zip(
        IDS, (40, 9, 25, 31, 9), ([(30, 40)], [(4, 9)], [(5, 8), (20, 25)], [(0, 3), (30, 31)], [(8, 9)]), strict=True
    )
]


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return TorchModel(BASE, CPU)


@pytest.fixture(scope="module")
def plain():
    """The same model by transformers alone."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


# --- rows


def test_the_first_token_of_a_text_is_predicted_by_nothing_and_a_cut_takes_what_lies_behind():
    row = Row.of(list(range(100, 112)), [(0, 2), (5, 12)], 8)
    assert (row.ids, row.predicted, row.targets) == (list(range(100, 108)), [1, 5, 6, 7], [101, 105, 106, 107])
    assert row.answer == 5


def test_rows_are_taken_from_everywhere_and_not_from_the_beginning_alone():
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 10) == [0, 1, 2]
    assert spread([], 4) == [] == spread(range(3), 0)


def test_rows_without_an_answer_are_left_out_and_a_set_of_them_is_refused():
    beyond = Row.of([1] * 20, [(18, 20)], 10)
    assert chosen([beyond, ROWS[0]], 5, "x.jsonl") == [ROWS[0]]
    with pytest.raises(PressError, match=r"x\.jsonl: none of the 1 rows has a token of an answer within evaluate"):
        chosen([beyond], 5, "x.jsonl")


def test_batches_hold_rows_of_like_length_within_memory():
    lengths = [6, 900, 6, 800, 7]
    found = list(batches(lengths, LOGITS // 1700))
    assert found == [[0, 2, 4], [3], [1]]
    assert list(batches([10_000_000], 100_000)) == [[0]], "a row alone is never too large"


def test_batches_compute_little_for_nothing():
    lengths = [68, 223, 216, 302, 71, 322, 146, 65, 291, 400, 64, 133]
    found = list(batches(lengths, 1))
    assert sorted(number for batch in found for number in batch) == list(range(12)), "each row once"
    assert [[lengths[number] for number in batch] for batch in found] == [
        [64, 65, 68, 71], [133, 146], [216, 223], [291, 302, 322], [400]
    ]  # fmt: skip
    assert list(batches([7, 8], 1)) == [[0, 1]], "one place of sixteen"
    assert list(batches([5, 8], 1)) == [[0], [1]], "three places of sixteen"


# --- PyTorch


def test_losses_are_those_of_the_answers_tokens_whatever_the_batch(model, plain):
    scores, top = model.score(ROWS, "base", "rows")
    tokens = [len(row.predicted) for row in ROWS]
    assert scores.tokens == tokens == [10, 5, 8, 3, 1]
    for row, nll, kept in zip(ROWS, scores.nll["base"], top.of_rows(tokens), strict=True):
        with torch.inference_mode():
            expected = plain(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        places = [place - 1 for place in row.predicted]
        assert nll == pytest.approx(-sum(float(expected[p, row.ids[p + 1]]) for p in places), rel=1e-4)
        best = expected[places].topk(KEPT)
        np.testing.assert_allclose(kept.log_probs, best.values.numpy(), atol=1e-3)
        assert (kept.ids[:, 0] == best.indices[:, 0].numpy()).all()


def test_a_model_that_cannot_leave_logits_out_gives_the_same(model):
    whole = TorchModel(BASE, CPU)
    whole._keeps = False
    assert whole.score(ROWS, "base", "rows")[0].nll["base"] == pytest.approx(
        model.score(ROWS, "base", "rows")[0].nll["base"], rel=1e-4
    )


def test_an_adapter_counts_where_it_is_on(model, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    tuned = get_peft_model(TorchModel(BASE, CPU)._model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    tuned.save_pretrained(tmp_path)
    adapted = TorchModel(BASE, CPU, tmp_path)
    base = model.score(ROWS, "base", "rows")[0].nll["base"]
    with adapted.without_adapter():
        assert adapted.score(ROWS, "base", "rows")[0].nll["base"] == pytest.approx(base, rel=1e-5)
    assert adapted.score(ROWS, "base", "rows")[0].nll["base"] != pytest.approx(base, rel=1e-2)


def test_answers_are_greedy_end_where_the_model_ends_them_and_are_the_same_in_a_batch(model):
    tokenizer = load_tokenizer(BASE, trust_remote_code=False)
    before, after = frame(tokenizer, "chat")
    asked = ("What is the capital of France?", "Which verb means to scatter small drops or grains over something?")
    prompts = [tokenizer.encode(f"{before}{text}{after}", add_special_tokens=False) for text in asked]
    together = model.answers(prompts, 24, tokenizer, "answers")
    assert together[0].strip() == "The capital of France is Paris."
    assert together == [model.answers([prompt], 24, tokenizer, "answers")[0] for prompt in prompts]
    short = model.answers(prompts, 3, tokenizer, "answers")
    assert all(full.startswith(cut) and len(cut) < len(full) for full, cut in zip(together, short, strict=True))


def test_a_data_set_becomes_rows_and_questions_people_can_read():
    tokenizer = load_tokenizer(BASE, trust_remote_code=False)
    before, after = frame(tokenizer, "chat")
    prepared = []
    for prompt, answer in (("Where to?", "To the sea."), ("And then?", "Home, by the long road.")):
        head = tokenizer.encode(f"{before}{prompt}{after}", add_special_tokens=False)
        tail = tokenizer.encode(f"{answer}<|end|>\n", add_special_tokens=False)
        prepared.append(Prepared(head + tail, [(len(head), len(head) + len(tail))]))
    how = {"what": "x", "sequence_length": 512, "limit": 9, "generate_rows": 9}
    scores = measured(prepared, tokenizer, "chat", **how, answer_tokens=99).scores
    assert [one.prompt for one in scores.questions] == ["Where to?", "And then?"]
    assert scores.questions[1].reference.strip() == "Home, by the long road."
    assert [prompt == row.input_ids[: row.answers[0][0]] for prompt, row in zip(scores.prompts, prepared, strict=True)]
    cut = measured(prepared, tokenizer, "chat", **how, answer_tokens=2).scores
    assert scores.questions[1].reference.startswith(cut.questions[1].reference) and cut.answer_tokens == 2
    no_room = measured(prepared, tokenizer, "chat", **{**how, "generate_rows": 0}, answer_tokens=2).scores
    assert no_room.questions == [] and len(no_room.rows) == 2


def test_of_preferences_the_preferred_answer_is_measured(tmp_path):
    one, other = ({"input_ids": [1, 2, last], "answers": [[2, 3]]} for last in (7, 8))
    path = tmp_path / "held_out.jsonl"
    path.write_text(json.dumps({"chosen": one, "rejected": other}) + "\n")
    assert [row.input_ids for row in held_out(path)] == [[1, 2, 7]]
    path.write_text(json.dumps(other) + "\n")
    assert [row.input_ids for row in held_out(path)] == [[1, 2, 8]]


# --- scores


def distributions(count: int, vocabulary: int, seed: int) -> np.ndarray:
    return log_softmax(3 * np.random.default_rng(seed).standard_normal((count, vocabulary)).astype(np.float32))


def kept(log_probs: np.ndarray, most: int) -> Top:
    order = np.argsort(-log_probs, axis=1)[:, :most]
    return Top(order.astype(np.int32), np.take_along_axis(log_probs, order, axis=1))


def test_the_divergence_is_the_textbooks_where_everything_is_kept_and_a_little_less_where_not():
    ours, theirs = distributions(7, 500, 1), distributions(7, 500, 2)
    exact = (np.exp(ours.astype(np.float64)) * (ours - theirs)).sum(axis=1)
    np.testing.assert_allclose(divergence(kept(ours, 500), theirs), exact, rtol=1e-4)
    some = divergence(kept(ours, 100), theirs)
    assert (some <= exact + 1e-6).all() and (some > 0.7 * exact).all()
    assert (divergence(kept(ours, 100), ours) < 1e-6).all()


def test_scores_and_likeliest_tokens_come_back_as_they_went(tmp_path):
    scores = Scores(ROWS[:2], 8, [Question(1, "a", "b")], {"base": [1.5, 2.0]}, answers={"base": ["c"]})
    scores.save(tmp_path / SCORES)
    assert Scores.load(tmp_path / SCORES) == scores
    top = kept(distributions(15, 50, 0), 8)
    save_top(tmp_path / TOP, {"quantized": top, "finetuned": top})
    found = load_top(tmp_path / TOP)
    assert list(found) == ["finetuned", "quantized"] or list(found) == ["quantized", "finetuned"]
    np.testing.assert_array_equal(found["quantized"].ids, top.ids)
    first, second = found["finetuned"].of_rows([5, 10])
    assert len(first.ids) == 5 and (second.log_probs == top.log_probs[5:]).all()


# --- answers


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence_in_any_script():
    assert rouge_l(["the cat sat on the mat"], ["the cat on a mat"]) == [round(8 / 11, 6)]  # 4 of 6 and of 5 words
    assert rouge_l(["Москва столица", "x"], ["москва, СТОЛИЦА!", ""]) == [1.0, 0.0]


def test_an_exact_match_is_one_but_for_white_space():
    assert exact_match(["To the sea.\n", "To the sea.", "a b"], [" To  the sea.", "to the sea.", "a"]) == [1, 0, 0]


# --- intervals


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        weights = random.integers(5, 40, 60)
        sums = [random.normal(2.0, 1.0, count).sum() for count in weights]
        found = estimate(mean, sums, weights.tolist())
        assert found.low <= found.value <= found.high
        inside += found.low <= 2.0 <= found.high
    assert 175 <= inside <= 199


def test_a_paired_difference_is_sharper_than_its_parts_and_the_same_each_time():
    random = np.random.default_rng(1)
    hard = random.gamma(2.0, 20.0, 80)  # rows differ much more than steps do
    base, other = hard.tolist(), (hard + random.normal(1.0, 0.5, 80)).tolist()
    tokens = [10] * 80
    difference = estimate(mean, other, tokens, base)
    assert difference == estimate(mean, other, tokens, base)
    assert difference.value == pytest.approx(np.mean(other) / 10 - np.mean(base) / 10)
    assert 0 < difference.low < difference.value < difference.high
    alone = estimate(mean, other, tokens)
    assert (difference.high - difference.low) < (alone.high - alone.low) / 10
    assert estimate(exponential, other, tokens).low == pytest.approx(math.exp(alone.low))


def test_rows_that_are_all_alike_and_a_single_row_have_an_interval():
    found = estimate(mean, [0.0] * 9, [1] * 9)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    one = estimate(mean, [3.0], [2])
    assert (one.low, one.value, one.high) == (1.5, 1.5, 1.5)


# --- figures


MEASURED = Scores(
    ROWS[:3],
    8,
    [Question(0, "p", "to the sea"), Question(2, "q", "home")],
    {"quantized": [12.0, 6.0, 8.0], "base": [10.0, 5.0, 8.0], "quantized_onnx": [12.5, 6.0, 8.0]},
    {"quantized": [0.1, 0.2, 0.16]},
    {"quantized": [10, 5, 8]},
    {"base": ["to the sea", "home"], "quantized_onnx": ["to the sea", "away"]},
)


def test_figures_by_step():
    found = quality(MEASURED)
    assert (found["rows"], found["tokens"]) == (3, 23)
    assert found["loss"] == {"base": 1.0, "quantized": 1.1304, "quantized_onnx": 1.1522}
    assert list(found["loss"]) == ["base", "quantized", "quantized_onnx"], "in the pipeline's order"
    assert found["perplexity"]["base"] == 2.718
    assert found["rouge_l"] == found["exact_match"] == {"base": 1.0, "quantized_onnx": 0.5}
    assert found["kl_divergence"] == {"quantized": 0.02} and found["same_top_token"] == {"quantized": 1.0}
    assert {*found} == {
        *("rows", "tokens", "loss", "perplexity", "rouge_l", "exact_match", "kl_divergence", "same_top_token")
    }


def test_intervals_of_figures_and_of_differences():
    found = {(one["metric"], one["step"], one["minus"]): one for one in intervals(MEASURED, "general")}
    assert {one["set"] for one in found.values()} == {"general"}
    assert {key[1:] for key in found if key[0] == "loss"} == {
        ("base", None),
        ("quantized", None),
        ("quantized_onnx", None),
        ("quantized", "base"),
        ("quantized_onnx", "quantized"),
        ("quantized_onnx", "base"),
    }
    assert found["loss", "quantized", "base"]["value"] == round(3 / 23, 6)
    assert found["rouge_l", "quantized_onnx", "base"]["value"] == -0.5
    assert ("kl_divergence", "quantized", None) in found
    for one in found.values():
        assert one["low"] <= one["value"] <= one["high"]


def test_samples_show_the_base_and_what_ships():
    assert samples(MEASURED, "held_out")[1] == {
        "set": "held_out",
        "prompt": "q",
        "reference": "home",
        "answers": {"base": "home", "quantized_onnx": "away"},
    }
