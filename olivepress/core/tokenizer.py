"""The tokenizer of a checkpoint folder, or a message that says why it has none."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError, first_sentence
from olivepress.core.lacks import lack

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokenizer.json"


def load_tokenizer(folder: Path, *, trust_remote_code: bool) -> "PreTrainedTokenizerBase":
    """The tokenizer in ``folder``, which splits text as its tokenizer.json is written.

    PressError if its files are broken or missing.
    """
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if tokenizer.is_fast and (folder / FILE).is_file():
            _follow(tokenizer, folder / FILE)
    except Exception as error:  # the tokenizers library raises plain Exception for a broken tokenizer.json
        if lack(error):  # the machine lacks it, not the model
            raise
        raise PressError(
            f"{folder}: its tokenizer cannot be loaded: {first_sentence(error)} Fetch the model again."
        ) from error
    return tokenizer


def _follow(tokenizer: "PreTrainedTokenizerBase", file: Path) -> None:
    """Have a tokenizer split text as its file says, which the model was trained with and ONNX Runtime GenAI reads.

    transformers 5 takes the vocabulary alone from it for some classes, LlamaTokenizer among them, and rebuilds the
    rest: behind a control token such as Phi-3's <|user|> it then gives "H" where the file gives "▁H".
    """
    from tokenizers import Tokenizer

    written = Tokenizer.from_file(str(file))
    if written.get_vocab() == tokenizer.get_vocab():  # not where tokenizer_config.json adds tokens
        tokenizer._tokenizer = written
