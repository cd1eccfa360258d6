"""Whether ONNX Runtime GenAI reads text, and renders the chat template, as transformers does: a model is trained by one
and served by the other.

GenAI has a tokenizer of its own, which reads tokenizer.json anew. It is compared on the texts below and on those of the
quantizer's calibration data, in the folder that is to ship, with a stand-in for the model: a tokenizer is the same on
every provider. A process of its own does it, since GenAI's tokenizer may crash on a file that it was not made for.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from olivepress.core.artifact import MODEL
from olivepress.core.end_tokens import control_ids
from olivepress.core.errors import PressError, first_sentence
from olivepress.core.jsonl import read_objects
from olivepress.core.limits import TooMuch, each_apart
from olivepress.core.report import note
from olivepress.core.template import on_day

if TYPE_CHECKING:
    import onnxruntime_genai as og
    from transformers import PreTrainedTokenizerBase

MOST = 500  # texts of the data
LONGEST = 2000  # characters of each
SECONDS = 120  # to load a tokenizer, or to read a text; the largest vocabularies take some seconds
# What tokenizers are known to differ in: digits, runs of white space, case and accents, scripts, emoji, code, quotes.
TEXTS = (
    "Hello, world!",
    " leading and trailing ",
    "two  spaces   three    four",
    "a\tb\t\tc",
    "line\nbreak\n\nparagraph\n\n\n\nfar",
    "windows\r\nline",
    "0 1 12 123 1234 12345 1234567890 3.14 1,000,000 2026-11-27 +49 30 901820",
    "naïve café Ångström Straße ÉCOLE İstanbul",
    "don't we'll they've I'm it's “quoted” ‘single’ — dash – minus … ellipsis",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "你好，世界。こんにちは世界 안녕하세요 สวัสดี नमस्ते",
    "I like it 😀 and ❤️ this 👍",
    "def f(x):\n    return {'a': [x**2, -1]}  # comment\n\tif x != 0: pass\n",
    "https://example.org/a?b=c&d=%20#e user@example.org C:\\path\\file_name.txt",
    "<b>bold</b> & \"quotes\" 'single' `code` | ~ ^ § ° € £ µ",
    "CamelCaseWords snake_case_words SHOUTING aaaaaaaaaaaaaaaaaaaaaaaa",
)
# Conversations that a chat template is compared on: a question, a longer talk, a system prompt, what is often escaped.
TALKS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "How do I cook pasta?"}],
    [
        {"role": "user", "content": "Where is Chicago?"},
        {"role": "assistant", "content": "In Illinois."},
        {"role": "user", "content": "And Paris?"},
    ],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Chicago?"}],
    [{"role": "user", "content": " a\tb\n\n\"c\" 'd' <e> & {{ f }} {% g %} \\ é 你好 😀\n"}],
)
READS = "It reads byte-level BPE and SentencePiece-like BPE from tokenizer.json. Choose a model with such a tokenizer."
# Seldom written, and read otherwise by tokenizers that are right on all else: a model is not refused for them alone.
SELDOM = ("½ ¼ ² ³ ① Ⅷ ٣ ३", "👍🏽 👩‍👩‍👧‍👦 🇩🇪", "ﬁ ﷺ Å Å ẞ", "a\u200bb\u00a0c\u2003d")


def check_tokenizer(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    data: Path | None,
    *,
    chat: bool = False,
    date: str | None = None,
) -> None:
    """PressError with the text and both ids where GenAI reads one otherwise, or if it cannot load the tokenizer.

    ``folder``: the exported model; ``tokenizer``: the checkpoint's; ``data``: a file of JSON lines whose texts are
    compared, too. ``chat``: the chat template is used, and compared; ``date`` is what it got as today in training.
    """
    from onnxruntime_genai import Tokenizer  # noqa: F401  once, and not in the other process

    doing = "loading it"
    try:
        with TemporaryDirectory(prefix="tokenizer-", dir=folder.parent) as scratch:
            for text, alike in each_apart(
                lambda: _compared(folder, tokenizer, data, Path(scratch), chat, date), SECONDS
            ):
                if not alike:
                    note(f"tokenizer: ONNX Runtime GenAI reads {text!r} otherwise than transformers.")
                doing = f"reading what comes after {text[:120]!r}"
    except TooMuch as error:
        raise PressError(f"ONNX Runtime GenAI cannot use the model's tokenizer: {doing} {error}. {READS}") from error


def _compared(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    data: Path | None,
    scratch: Path,
    chat: bool,
    date: str | None,
) -> Iterator[tuple[str, bool]]:
    """Each text, and whether both read it alike; PressError for the first that is not one of SELDOM and is not."""
    runtime = _runtime_tokenizer(folder, scratch)
    for text in (*TEXTS, *_control(tokenizer), *(_texts(data) if data else ()), *SELDOM):
        try:
            ids = runtime.encode(text).tolist()
        except RuntimeError as error:
            raise PressError(
                f"ONNX Runtime GenAI cannot read {text[:120]!r} with the model's tokenizer: {first_sentence(error)} "
                f"{READS}"
            ) from error
        expected = tokenizer.encode(text, add_special_tokens=False, verbose=False)
        if ids != expected and text not in SELDOM:
            raise _differ(tokenizer, text, ids, expected)
        yield text, ids == expected
    if chat and tokenizer.chat_template:
        _compare_rendering(runtime, tokenizer, date)


def _compare_rendering(runtime: "og.Tokenizer", tokenizer: "PreTrainedTokenizerBase", date: str | None) -> None:
    """PressError if GenAI, which has a template engine of its own, makes another text of one of TALKS."""
    template = tokenizer.get_chat_template()
    template = on_day(template, date) if date else template
    for talk in TALKS:
        try:
            expected = tokenizer.apply_chat_template(
                talk, chat_template=template, tokenize=False, add_generation_prompt=True
            )
        except Exception:  # whatever a template does to a role that it does not take: there are no such rows
            continue
        try:
            found = runtime.apply_chat_template(json.dumps(talk), add_generation_prompt=True)
        except RuntimeError as error:
            raise PressError(
                f"chat template: ONNX Runtime GenAI cannot render it: {first_sentence(error)} Write a text.template."
            ) from error
        if found != expected:
            pairs = enumerate(zip(found, expected, strict=False))
            same = next((n for n, (one, other) in pairs if one != other), min(len(found), len(expected)))
            raise PressError(
                f"chat template: ONNX Runtime GenAI renders it otherwise than transformers, from character {same} on: "
                f"{found[same:][:60]!r} where training has {expected[same:][:60]!r}. The model would be asked with "
                "another prompt than it was trained with. Write a text.template."
            )


def _runtime_tokenizer(folder: Path, scratch: Path) -> "og.Tokenizer":
    """GenAI's tokenizer of the files in ``folder``, over a model of one node that stands for the exported one."""
    import onnx
    import onnxruntime_genai as og

    for path in folder.iterdir():
        if path.is_file() and path.suffix not in (".onnx", ".data", ".so", ".dll"):
            shutil.copyfile(path, scratch / path.name)
    ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "places"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "places"])
    cast = onnx.helper.make_node("Cast", ["input_ids"], ["logits"], to=onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph([cast], "stand-in", [ids], [logits])
    opset = [onnx.helper.make_opsetid("", 21)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), scratch / MODEL)
    config: dict[str, Any] = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"] = {"provider_options": []}
    (scratch / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    try:
        return og.Tokenizer(og.Model(str(scratch)))
    except RuntimeError as error:
        raise PressError(
            f"ONNX Runtime GenAI cannot load the model's tokenizer: {first_sentence(error)} {READS}"
        ) from error


def _control(tokenizer: "PreTrainedTokenizerBase") -> Iterator[str]:
    """Every control token between words, as a chat template writes them."""
    for number in sorted(control_ids(tokenizer))[:MOST]:
        token = tokenizer.convert_ids_to_tokens(number)
        yield f"{token}\nword{token}word {token}"


def _texts(path: Path) -> Iterator[str]:
    """Texts of the rows, at any depth, evenly from the whole file."""
    found = [text[:LONGEST] for _, row in read_objects(path) for text in _strings(row)]
    yield from found[:: max(1, len(found) // MOST)]


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _differ(tokenizer: "PreTrainedTokenizerBase", text: str, ids: list[int], expected: list[int]) -> PressError:
    same = next(
        (place for place, pair in enumerate(zip(ids, expected, strict=False)) if pair[0] != pair[1]),
        min(len(ids), len(expected)),
    )
    theirs = tokenizer.convert_ids_to_tokens(expected[same : same + 6])
    return PressError(
        f"tokenizer: ONNX Runtime GenAI reads {text[:120]!r} otherwise than transformers, from token {same} on: "
        f"{ids[same : same + 6]} where training has {expected[same : same + 6]} ({theirs}). The model would be asked "
        "in tokens that it was not trained on. Choose a model with a byte-level BPE tokenizer."
    )
