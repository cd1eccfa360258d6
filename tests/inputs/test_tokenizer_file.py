"""The tokenizer's file is rewritten smaller, and is the same tokenizer."""

import json
import shutil
from pathlib import Path

from transformers import AutoTokenizer

from olivepress.export.tokenizer_file import compact_tokenizer

TINY = Path(__file__).parents[2] / "data/tiny-phi3"
TEXT = "Où est Pise? 東京 🫒 \n\t  12,5 <|user|>"


def test_the_same_tokenizer_in_fewer_bytes(tmp_path):
    for path in TINY.glob("token*"):
        shutil.copyfile(path, tmp_path / path.name)
    path = tmp_path / "tokenizer.json"
    before, content = path.stat().st_size, json.loads(path.read_text(encoding="utf-8"))
    expected = AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"]
    compact_tokenizer(tmp_path)
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert path.stat().st_size < 0.7 * before
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"] == expected


def test_other_tokenizers_have_no_such_file(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\0")
    compact_tokenizer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.model"]
