"""olivepress lm-eval: local tasks on the exported model, without an adapter and with one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from olivepress.evaluate.exported import log_softmax
from olivepress.runtime.logits import OnnxLogits
from olivepress.tools.lm_eval import main

QUESTIONS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
]
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{[answer, 'Mix the flour with two eggs.']}}",
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
WRITTEN = {
    "output_type": "generate_until",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 24},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with two tasks on the same rows: choosing an answer, and writing it."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in QUESTIONS))
    for name, kind in (("capitals_choose", CHOICES), ("capitals_write", WRITTEN)):
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(rows)}},
            "test_split": "test",
            "doc_to_text": "{{question}}",
            **kind,
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.fixture
def run(finished, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command in the folder of a finished run, without a network: what it says, and the metrics it wrote."""
    monkeypatch.chdir(finished.folder)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    out = tmp_path / "out.json"

    def run(*options: str) -> tuple[Result, dict]:
        done = CliRunner().invoke(main, ["--include-path", str(tasks), "--output", str(out), *options])
        return done, json.loads(out.read_text())["results"] if out.exists() else {}

    return run


@pytest.mark.slow
def test_the_base_chooses_and_writes_what_it_knows_and_an_adapter_writes_otherwise(run) -> None:
    both = ("--tasks", "capitals_choose,capitals_write", "--chat")
    done, found = run(*both)
    assert done.exit_code == 0, done.output
    assert found["capitals_choose"]["acc,none"] == 1
    assert found["capitals_write"]["exact_match,none"] == 1
    assert re.search(r"\|capitals_write\s*\|.*exact_match", done.output)
    done, adapted = run(*both, "--adapter", "cooking")
    assert done.exit_code == 0, done.output
    assert adapted["capitals_write"]["exact_match,none"] < 1
    done, found = run("--tasks", "capitals_choose", "--chat", "--limit", "1")
    assert found["capitals_choose"]["sample_len"] == 1


def test_likelihoods_are_onnx_runtimes_with_the_adapter(finished) -> None:
    from olivepress.tools.lm_eval_model import AdaptedLM

    folder = finished.folder / "models/onnx/cpu-int4"
    adapter = folder / "adapters/travel.onnx_adapter"
    context, continuation = [5, 76, 883, 930], [1469, 860, 77]
    plain = OnnxLogits(folder / "model", {"travel": adapter}, "CPUExecutionProvider")
    seen = {}
    for name, file in ((None, None), ("travel", adapter)):
        ((found, _),) = AdaptedLM(folder / "model", file)._loglikelihood_tokens([(None, context, continuation)], True)
        log_probs = log_softmax(plain([*context, *continuation], name)[3:6])
        assert found == pytest.approx(float(log_probs[np.arange(3), continuation].sum()), abs=0.01)
        seen[name] = found
    assert abs(seen[None] - seen["travel"]) > 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tasks", "capitals_chose"), "lm-eval knows no 'capitals_chose'"),
        (("--tasks", "capitals_choose", "--adapter", "x"), "no adapter 'x' (there: cooking, travel)"),
        (("--tasks", "capitals_choose", "--target", "gpu"), "no target 'gpu' (there: cpu-int4)"),
    ],
)
def test_what_is_not_there_is_named(run, options, said) -> None:
    done, found = run(*options)
    assert done.exit_code == 1 and said in done.output and found == {}
