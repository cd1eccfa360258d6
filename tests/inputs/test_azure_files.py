"""Which files of what Azure ML gives are the model's, where there are others beside them."""

from pathlib import Path

import pytest

from olivepress.azure.download import _checkpoint_files
from olivepress.core.errors import PressError
from olivepress.fetch.sources import FILES

MODEL = ("data/model/config.json", "data/model/model.safetensors", "LICENSE")


def taken(root: Path, *names: str) -> list[str]:
    for name in (*MODEL, *names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return sorted({path.relative_to(root).as_posix() for path in _checkpoint_files(root, "azureml:m:1", FILES)})


def test_a_tokenizer_in_a_folder_of_its_own(tmp_path):
    tokenizer = ("data/tokenizer/tokenizer.json", "data/tokenizer/tokenizer_config.json")
    assert taken(tmp_path, *tokenizer) == sorted((*MODEL, *tokenizer))


def test_a_model_with_a_tokenizer_takes_nothing_of_another_one(tmp_path):
    own = ("data/model/tokenizer_config.json",)
    other = ("draft/tokenizer_config.json", "draft/generation_config.json", "draft/chat_template.jinja")
    assert taken(tmp_path, *own, *other) == sorted((*MODEL, *own))


def test_two_tokenizers_and_none_beside_the_weights(tmp_path):
    with pytest.raises(PressError, match=r"no tokenizer beside its weights, and several elsewhere: a, b\."):
        taken(tmp_path, "a/tokenizer_config.json", "b/tokenizer_config.json")
