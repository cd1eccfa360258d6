"""GenAI's tokenizer beside transformers': alike, or refused with the text and the ids; and what ends an answer."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from olivepress.core.end_tokens import end_tokens
from olivepress.core.errors import PressError
from olivepress.core.tokenizer import load_tokenizer
from olivepress.export.session_options import set_end_tokens
from olivepress.export.tokenizer_check import TEXTS, _runtime_tokenizer, check_tokenizer
from olivepress.export.tokenizer_file import portable_template
from olivepress.runtime import tokenizer_trial

TINY = Path(__file__).parents[1] / "data/tiny-phi3"
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GENAI = {
    "model": {
        "type": "llama",
        "context_length": 64,
        "vocab_size": 600,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "decoder": {
            "filename": "model.onnx",
            "head_size": 16,
            "hidden_size": 16,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "num_hidden_layers": 1,
            "session_options": {"provider_options": [{"cuda": {}}]},
            "inputs": {"input_ids": "input_ids"},
            "outputs": {"logits": "logits"},
        },
    },
    "search": {},
}


def save(folder: Path, tokenizer: Tokenizer, **settings) -> Path:
    """A model folder with this tokenizer, as auto-opt writes it, but for the model."""
    from transformers import PreTrainedTokenizerFast

    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", **settings}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")
    (folder / "genai_config.json").write_text(json.dumps(GENAI), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 2}), encoding="utf-8")
    return folder


def byte_level(normalizer=None, prefix: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL))
    return tokenizer


def checked(folder: Path, data: Path | None = None) -> None:
    check_tokenizer(folder, load_tokenizer(folder, trust_remote_code=False), data)


def test_byte_level_bpe_is_read_alike(tmp_path):
    """For a CUDA target, too, on a machine without CUDA; nothing is left behind."""
    checked(save(tmp_path / "model", byte_level()))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"normalizer": normalizers.Lowercase()}, "Hello, world!"),
        ({"normalizer": normalizers.NFKC()}, "don't we'll"),
        ({"prefix": True}, "Hello, world!"),
    ],
    ids=["lower case", "NFKC", "a space before"],
)
def test_a_difference_is_refused_with_the_text_and_the_ids(tmp_path, settings, text):
    folder = save(tmp_path / "model", byte_level(**settings))
    with pytest.raises(PressError, match=r"from token \d+ on: \[[\d, -]+\] where training has \[[\d, ]+\]") as refused:
        checked(folder)
    assert text in refused.value.message


def test_the_datas_own_texts_are_compared(tmp_path):
    """A text that no built-in one is like: a long s, which NFKC makes an s."""
    folder = save(tmp_path / "model", byte_level(normalizers.Replace("ſ", "s")))
    checked(folder)
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "fine"}\n{"messages": [{"content": "Congreſs"}]}\n', encoding="utf-8")
    with pytest.raises(PressError, match="Congreſs"):
        checked(folder, data)


def test_a_tokenizer_of_a_kind_that_genai_does_not_know_is_refused(tmp_path):
    """By GenAI's error, by its crash (seen once), or by its ids."""
    with pytest.raises(PressError, match=r"cannot (load|use) the model's tokenizer|reads 'Hello, world!' otherwise"):
        checked(save(tmp_path / "model", word_piece()))


def test_a_tokenizer_that_crashes_genai_is_refused(tmp_path):
    """By a regular expression of brackets in one another; transformers has read the file before it was so."""
    folder = save(tmp_path / "model", byte_level())
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    path = folder / "tokenizer.json"
    pattern = {"Regex": "(" * 100_000 + ")" * 100_000}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    changed = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}), encoding="utf-8")
    with pytest.raises(PressError, match=r"loading it ends the process that does it \(Segmentation fault\)"):
        check_tokenizer(folder, tokenizer, None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_end_tokens_come_from_all_that_name_one(tmp_path):
    folder = save(tmp_path / "model", byte_level())
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    assert end_tokens(folder, tokenizer) == [2, 4], "config.json's, and the template's <|end|>"
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 2]}', encoding="utf-8")
    assert end_tokens(folder, tokenizer) == [3, 2, 4]
    set_end_tokens(folder, [3, 2, 4])
    assert json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]["eos_token_id"] == [3, 2, 4]


def test_end_tokens_that_the_builder_wrote_stay_byte_for_byte(tmp_path):
    folder = save(tmp_path / "model", byte_level())
    before = (folder / "genai_config.json").read_bytes()
    set_end_tokens(folder, [2])
    assert (folder / "genai_config.json").read_bytes() == before


def test_a_model_that_names_no_end_is_refused(tmp_path):
    folder = save(tmp_path / "model", byte_level(), eos_token=None)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    tokenizer.chat_template = None
    with pytest.raises(PressError, match="nothing says which token ends an answer"):
        end_tokens(folder, tokenizer)


def test_a_template_may_fail_or_write_no_end(tmp_path):
    folder = save(tmp_path / "model", byte_level())
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    for template in ("{{ raise_exception('no') }}", "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"):
        tokenizer.chat_template = template
        assert end_tokens(folder, tokenizer) == [2]


def test_the_embedded_model(tmp_path):
    """Its end of a turn is in its generation configuration; without that file the template has it."""
    shutil.copytree(TINY, tmp_path / "tiny")
    tokenizer = load_tokenizer(tmp_path / "tiny", trust_remote_code=False)
    assert end_tokens(tmp_path / "tiny", tokenizer) == [4, 0]
    (tmp_path / "tiny/generation_config.json").unlink()
    assert set(end_tokens(tmp_path / "tiny", tokenizer)) == {4, 0}


# --- the chat template

YEAR = "{{ strftime_now('%Y') }} "
DATED = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }} {% endif %}" + TEMPLATE
# As Zephyr's and TinyLlama's are written: transformers takes the line breaks behind blocks off
IN_LINES = (
    "{% for message in messages %}\n  {% if message['role'] == 'user' %}\n{{ '<|user|>' + message['content'] }}\n"
    "  {% else %}\n{{ message['content'] }}\n{% endif %}\n{% endfor %}\n"
)


def rendered(folder: Path, template: str, date: str | None = None, *, portable: bool = True) -> None:
    """Checks the folder with this chat template."""
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    tokenizer.chat_template = template
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if portable:
        portable_template(folder, date)
    check_tokenizer(folder, tokenizer, None, chat=True, date=date)


@pytest.mark.parametrize(
    ("template", "date"), [(TEMPLATE, None), (TEMPLATE, "2026-01-31"), (DATED, "2026-01-31"), (IN_LINES, None)]
)
def test_a_template_that_both_render_alike(tmp_path, template, date):
    rendered(save(tmp_path / "model", byte_level()), template, date)


@pytest.mark.parametrize(
    ("template", "date", "said"),
    [
        (IN_LINES, None, "renders it otherwise than transformers, from character 0 on: '"),
        # GenAI writes today's year: on every day they differ from the first character on
        (YEAR + TEMPLATE, "1999-01-31", "where training has '1999 <|user|>"),
        ("{{ messages[0]['content'] | title }}", None, "cannot render it: "),
        ("{{ none }}{{ messages[0]['content'] }}", None, "where training has 'None"),
    ],
)
def test_a_template_that_they_render_otherwise_is_refused(tmp_path, template, date, said):
    folder = save(tmp_path / "model", byte_level())
    with pytest.raises(PressError, match=r"^chat template: ONNX Runtime GenAI ") as refused:
        rendered(folder, template, date, portable=False)
    assert said in refused.value.message


# --- before it is used

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (TEMPLATE, None),
        ("{% for %}", None),  # an error is the renderer's to say
        (ENDLESS, "does not end within 0.5 seconds"),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "crashes"),
        ("{{ 'x' * 3000000000 }}", "takes all memory|does not end"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "crashes|does not end"),
    ],
    ids=["sound", "broken", "endless", "recursion", "long", "deep"],
)
def test_a_template_is_tried_where_it_can_be_killed(tmp_path, monkeypatch, template, said):
    import onnxruntime_genai as og

    monkeypatch.setattr(tokenizer_trial, "SECONDS", 0.5)
    folder = tmp_path / "run"
    folder.mkdir()
    _runtime_tokenizer(save(tmp_path / "model", byte_level()), folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model = og.Model(str(folder))
    if said is None:
        tokenizer_trial.try_tokenizer(model, folder)
    else:
        with pytest.raises(PressError, match=said):
            tokenizer_trial.try_tokenizer(model, folder)
