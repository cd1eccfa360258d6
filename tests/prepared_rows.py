"""Rows of data/ as the tiny base is trained on them."""

import json
from functools import cache
from pathlib import Path

from olivepress.core.prepared import Preference, Prepared
from olivepress.finetune.lora import LoraSettings

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/tiny-phi3"
SETTINGS = {
    "rank": 4,
    "alpha": 8,
    "dropout": 0.0,
    "target_modules": "default",
    "steps": 4,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "sequence_length": 64,
    "eval_steps": 2,
    "gradient_checkpointing": False,
    "seed": 0,
    "dtype": "float32",
    "device": "cpu",
    "processes": 1,
    "parallel": "none",
}


def settings(**changes: object) -> LoraSettings:
    return LoraSettings(**{**SETTINGS, **changes})


@cache
def tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TINY / "tokenizer.json"))


def prepared(prompt: str, response: str) -> Prepared:
    """A row in the tiny base's own template."""
    parts = (f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n", f"{response}<|end|>", "\n")
    asked, answered, rest = (tokenizer().encode(part, add_special_tokens=False).ids for part in parts)
    return Prepared(asked + answered + rest, [(len(asked), len(asked + answered))])


def travel(count: int) -> list[Prepared]:
    """The first rows of the travel data."""
    lines = (ROOT / "data/travel.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [prepared(row["prompt"], row["response"]) for row in map(json.loads, lines)]


def preferences(count: int) -> list[Preference]:
    """The same, each answer preferred to that of another row."""
    lines = (ROOT / "data/travel.jsonl").read_text(encoding="utf-8").splitlines()[: count + 1]
    rows = [json.loads(line) for line in lines]
    return [
        Preference(prepared(row["prompt"], row["response"]), prepared(row["prompt"], "I do not know, sorry."))
        for row in rows[:count]
    ]
