"""LoRA by PEFT and by Olive's own pass, as `make bench` times them: on the embedded base, two steps."""

import shutil
from pathlib import Path

import pytest
import transformers

from benchmarks.beside.steps import HELD_OUT, Settings, Work, lora_olive, lora_peft, lora_rows
from olivepress.core.prepared import write_prepared
from olivepress.core.tokenizer import load_tokenizer
from olivepress.data.encode import encode_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Work:
    folder = tmp_path_factory.mktemp("beside")
    shutil.copytree(ROOT / "data/tiny-phi3", folder / "float")
    tokenizer = load_tokenizer(folder / "float", trust_remote_code=False)
    write_prepared(folder / "train.jsonl", encode_rows(ROOT / "data/travel-tiny.jsonl", tokenizer, "chat"))
    return Work(folder, Settings(threads=1, steps=2))


def test_rows_are_held_out_of_training(work):
    train, held_out = lora_rows(work)
    assert (len(train) + len(held_out) - 1) // HELD_OUT + 1 == len(held_out)
    assert not {str(row.input_ids) for row in train} >= {str(row.input_ids) for row in held_out}


@pytest.mark.slow
def test_olives_own_pass_trains_as_peft_does(work, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    callbacks = list(transformers.trainer.DEFAULT_CALLBACKS)
    found = [lora(work) for lora in (lora_peft, lora_olive)]
    assert callbacks == transformers.trainer.DEFAULT_CALLBACKS
    (before, by_peft), (also_before, by_olive) = (each["held_out"] for each in found)
    assert before == also_before
    assert by_peft < before and by_olive < before
    assert all(each["seconds_per_step"] > 0 and len(each["losses"]) == 2 for each in found)
    assert not [path for path in work.folder.iterdir() if path.name.startswith("tmp")]
