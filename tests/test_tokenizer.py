"""A tokenizer splits text as its file says, whatever class it is loaded by."""

import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer

from olivepress.core.tokenizer import load_tokenizer

USER = "<|user|>"
TEXTS = ("Hi", f"{USER}Hi", f"{USER} Hi", f"{USER}\nHi Hi", "Hi  Hi")


def phi3_like(folder) -> Tokenizer:
    """Written as Phi-3's and Llama 2's: a blank before every piece of text, by a normalizer."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "H": 4, "i": 5, "▁H": 6, "▁Hi": 7, USER: 8}
    vocabulary |= {f"<0x{byte:02X}>": 9 + byte for byte in range(256)}
    merges = [("▁", "H"), ("▁H", "i")]
    written = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    written.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    written.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    written.add_special_tokens([AddedToken(USER, special=True, normalized=False)])
    written.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"unk_token": "<unk>"}))
    return written


def encoded(tokenizer) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]


def test_a_class_that_rebuilds_its_tokenizer_splits_as_the_file_says(tmp_path):
    written = phi3_like(tmp_path)
    expected = [written.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert encoded(AutoTokenizer.from_pretrained(tmp_path)) != expected, "transformers has mended it: this can go"
    assert encoded(load_tokenizer(tmp_path, trust_remote_code=False)) == expected


def test_what_is_saved_says_the_same(tmp_path):
    phi3_like(tmp_path)
    tokenizer = load_tokenizer(tmp_path, trust_remote_code=False)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert encoded(load_tokenizer(tmp_path / "saved", trust_remote_code=False)) == encoded(tokenizer)


def test_tokens_that_the_configuration_adds_stay(tmp_path):
    phi3_like(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<|pad|>"}))
    tokenizer = load_tokenizer(tmp_path, trust_remote_code=False)
    assert tokenizer.pad_token_id == len(tokenizer) - 1
