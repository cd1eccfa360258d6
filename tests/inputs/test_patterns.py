"""A base's tokenizer.json is tried before anybody reads text by it: a pattern without end is refused by its place."""

import json
import os
import shutil
from pathlib import Path

import pytest

from olivepress.core import limits
from olivepress.core.errors import PressError
from olivepress.fetch import patterns
from olivepress.fetch.patterns import try_tokenizer

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
# Of models that many use: GPT-2's, Llama 3's, Qwen 2's and DeepSeek's.
USED = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|"
    r"\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
]


@pytest.fixture
def base(tmp_path):
    """Copies the embedded base, with keys of its tokenizer.json set."""

    def write(**keys) -> Path:
        shutil.copytree(TINY, tmp_path, dirs_exist_ok=True)
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | keys), encoding="utf-8")
        return tmp_path

    return write


def split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace(pattern: str) -> dict:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}


@pytest.mark.parametrize("pattern", ["(a+)+$", "(x+x+)+y", r"(\s|\s)*z", "(q|qq)*$", r"^(\w+\s?)*$"])
def test_a_pattern_that_tries_ways_without_end_is_refused_by_its_place(base, monkeypatch, pattern):
    monkeypatch.setattr(limits, "SECONDS", 5)
    parts = {"type": "Sequence", "pretokenizers": [split(r"\s"), split(pattern)]}
    for place, keys in {
        "pre_tokenizer.pattern": {"pre_tokenizer": split(pattern)},
        "pre_tokenizer.pretokenizers[1].pattern": {"pre_tokenizer": parts},
        "normalizer.pattern": {"pre_tokenizer": None, "normalizer": replace(pattern)},
    }.items():
        folder = base(**keys)
        with pytest.raises(PressError) as caught:
            try_tokenizer(folder)
        assert caught.value.message.startswith(f"{folder / 'tokenizer.json'}: {place}: {pattern!r} ")


@pytest.mark.parametrize("pattern", USED)
def test_patterns_of_models_in_use_are_taken(base, pattern):
    assert try_tokenizer(base(pre_tokenizer=split(pattern))) is None


def test_a_base_without_patterns_is_taken():
    assert try_tokenizer(TINY) is None


def test_a_tokenizer_that_ends_its_process_is_refused(base, monkeypatch):
    monkeypatch.setattr(patterns, "load_tokenizer", lambda *_, **__: os.abort())
    folder = base()
    with pytest.raises(PressError, match=r"tokenizer\.json: splitting text by it ends the process that does it"):
        try_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PressError, match=r"splitting text by it ends the process that does it \(Aborted\)"):
        try_tokenizer(folder)


def test_a_broken_file_is_refused_as_ever(base):
    folder = base(pre_tokenizer=split("("))
    with pytest.raises(PressError, match="its tokenizer cannot be loaded"):
        try_tokenizer(folder)
    (folder / "tokenizer.json").write_text("[" * 200_000)
    with pytest.raises(PressError, match="its tokenizer cannot be loaded"):
        try_tokenizer(folder)
