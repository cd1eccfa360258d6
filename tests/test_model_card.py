"""The model card: a header that hubs take, the same bytes each time, and nothing of this machine."""

from copy import deepcopy

import pytest
from huggingface_hub import ModelCard

from olivepress.core.errors import PressError
from olivepress.core.proof import ELSEWHERE
from olivepress.register.card_header import base_model, licence_fields
from olivepress.register.model_card import RUNTIME, render_card

GENERAL = {
    "loss": {"base": 0.5044, "quantized": 0.5305, "quantized_onnx": 0.5306},
    "kl_divergence": {"quantized": 0.0001},
    "same_top_token": {"quantized": 0.999},
}
MANIFEST = {
    "name": "ft-for-travel",
    "version": "1.2.0",
    "target": "cpu-int4",
    "adapters": ["travel"],
    "licence": "MIT",
    "base": {"source": "data/tiny-phi3", "architecture": "Phi3ForCausalLM", "parameters": 3410176},
    "files": {"model/model.onnx": {}},
    "proved": {"model/model.onnx": "evaluated", "model/model.operators.onnx": "run"},
    "quality": {
        "quantize": {"size_ratio": 0.5081, "bits_per_quantized_weight": 4.625, "bits_per_weight": 8.13},
        "prepare": {"travel": {"train": {"rows": 291}}},
        "evaluate": {
            "travel": {
                "held_out": {
                    "loss": {
                        "base": 9.8439,
                        "quantized": 9.7127,
                        "quantized_onnx": 9.7113,
                        "finetuned": 5.0272,
                        "finetuned_onnx": 5.0275,
                    },
                    "kl_divergence": {"quantized": 0.0086, "finetuned": 0.0021},
                    "same_top_token": {"quantized": 0.984, "finetuned": 0.991},
                },
                "general": {
                    "loss": {**GENERAL["loss"], "finetuned": 0.7, "finetuned_onnx": 0.71},
                    "kl_divergence": {"quantized": 0.0001, "finetuned": 0.0002},
                    "same_top_token": {"quantized": 0.999, "finetuned": 0.97},
                },
            }
        },
        "evaluate-base": {"general": GENERAL},
    },
    "params": {
        "quantize": {"algorithm": "awq"},
        "text": {"template": "chat"},
        "targets": {"cpu-int4": {"provider": "CPUExecutionProvider"}},
        "adapters": {"travel": {"data": "data/travel.jsonl"}},
    },
}


def test_it_says_what_was_proved_of_each_file():
    text = card()
    assert "- `model/model.onnx`: evaluated: the metrics are its own" in text
    assert "- `model/model.operators.onnx`: run: it computed, and gave what PyTorch gives" in text


def test_a_graph_with_operators_has_figures_of_its_own():
    evaluated = deepcopy(MANIFEST["quality"])
    own = evaluated["evaluate"]["travel"]["held_out"]
    own["loss"]["finetuned_operators"] = 5.0281
    own["kl_divergence"]["finetuned_operators"], own["same_top_token"]["finetuned_operators"] = 0.0025, 0.987
    text = card(quality=evaluated)
    assert "| travel | travel | `model.onnx` | 5.027 | 2.1e-03 | 99.1% |" in text
    assert "| travel | travel | `model.operators.onnx` | 5.028 | 2.5e-03 | 98.7% |" in text


def card(**changes: object) -> str:
    return render_card({**deepcopy(MANIFEST), **changes}, {"LICENSE": "Permission is hereby granted"})


def test_the_header_is_valid_and_comes_back_as_it_went():
    loaded = ModelCard(card())
    assert loaded.data.license == "mit"
    assert loaded.data.pipeline_tag == "text-generation"
    assert loaded.data.library_name == "onnxruntime-genai"
    assert loaded.data.tags == ["onnx", "onnxruntime-genai", "lora", "awq"]
    assert loaded.data.model_name == "ft-for-travel 1.2.0"
    found = {(entry.dataset_type, entry.metric_type, entry.metric_value) for entry in loaded.data.eval_results}
    assert found == {("travel", "loss", 5.0275), ("general", "loss", 0.5306), ("general with travel", "loss", 0.71)}
    again = ModelCard(f"---\n{loaded.data.to_yaml()}\n---\n{loaded.text}")
    assert again.data.to_dict() == loaded.data.to_dict()
    assert again.data.eval_results == loaded.data.eval_results


def test_an_adapter_that_learned_preferences_says_so_and_how_well():
    quality = deepcopy(MANIFEST["quality"])
    quality["finetune"] = {"travel": {"reward_accuracy": {"before": 0.0, "best": 0.875}, "held_out": {"rows": 40}}}
    said = " ".join(card(quality=quality).split())
    assert "trained on travel: 291 preferences (data/travel.jsonl), right about 88% of 40 that were held out" in said
    assert "trained on travel: 291 rows (data/travel.jsonl)" in " ".join(card().split())


def test_the_same_manifest_gives_the_same_bytes():
    assert card() == card()
    assert "\r" not in card()


def test_the_body_has_every_step_of_every_data_set():
    text = card()
    assert "| travel | 9.844 | 9.713 | 5.027 | 9.711 | 5.027 |" in text
    assert "| general | 0.504 | 0.530 |  | 0.531 |  |" in text
    assert "| general with travel | 0.504 | 0.530 | 0.700 | 0.531 | 0.710 |" in text
    assert "| travel | none | `model.onnx` | 9.711 | 8.6e-03 | 98.4% |" in text
    assert "| travel | travel | `model.onnx` | 5.027 | 2.1e-03 | 99.1% |" in text
    assert "| general | none | `model.onnx` | 0.531 | 1.0e-04 | 99.9% |" in text
    assert "model.operators.onnx` | 0" not in text, "nothing was measured of it"
    assert "| general with travel | travel | `model.onnx` | 0.710 | 2.0e-04 | 97.0% |" in text
    assert text.count("1.0e-04") == 1, "what no adapter changes is told once"
    assert "Permission is hereby granted" in text


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf://microsoft/Phi-3.5-mini-instruct@" + "0" * 40, "microsoft/Phi-3.5-mini-instruct"),
        ("data/tiny-phi3", None),  # looks like a name on the hub, and is a folder
        ("/home/me/models/phi", None),
        ("azureml://registries/azureml/models/Phi-3.5-mini-instruct/versions/2", None),
    ],
)
def test_only_a_base_from_the_hub_is_named_as_one(source, name):
    assert base_model(source) == name
    data = ModelCard(card(base={**MANIFEST["base"], "source": source})).data
    assert data.base_model == name
    assert data.get("base_model_relation") == ("quantized" if name else None)


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("MIT", {"license": "mit"}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("MIT OR Apache-2.0", {"license": "other", "license_name": "mit-or-apache-2.0"}),
        ("Llama 3.2 Community", {"license": "other", "license_name": "llama-3.2-community"}),
    ],
)
def test_a_licence_has_a_name_that_the_hub_knows(licence, fields):
    assert licence_fields(licence, []) == fields
    data = ModelCard(card(licence=licence)).data
    assert data.license == fields["license"]
    assert data.get("license_link") == ("model/LICENSE" if fields["license"] == "other" else None)


def test_a_metric_that_is_no_number_is_refused():
    manifest = deepcopy(MANIFEST)
    manifest["quality"]["evaluate-base"]["general"]["loss"]["quantized_onnx"] = float("nan")
    with pytest.raises(PressError, match="general is nan"):
        render_card(manifest, {})


def test_it_says_what_to_install():
    text = card()
    assert f"onnxruntime {RUNTIME['onnxruntime']} or newer" in text
    assert "'refs/tags/ft-for-travel@v1.2.0^{}'" in text
    assert "olivepress[runtime] @ git+$repository@$commit" in text
    params = {**MANIFEST["params"], "targets": {"cpu-int4": {"provider": "CUDAExecutionProvider"}}}
    assert "olivepress[runtime-cuda] @ git+$repository@$commit" in card(params=params)
    assert "onnxruntime_ep_webgpu" not in card(params=params)


def test_it_says_how_a_webgpu_target_gets_its_plug_in():
    params = {**MANIFEST["params"], "targets": {"cpu-int4": {"provider": "WebGpuExecutionProvider"}}}
    text = card(params=params)
    assert "onnxruntime 1.31 or newer" in text and "and onnxruntime-ep-webgpu" in text
    assert "olivepress[runtime-webgpu] @ git+$repository@$commit" in text
    code = text.partition("```python\nimport onnxruntime_genai as og\n")[2].partition("```")[0]
    registered, loaded = code.index("og.register_execution_provider_library("), code.index("og.Model(")
    assert registered < loaded
    compile(code, "card", "exec")


@pytest.mark.parametrize(
    ("provider", "extra"),
    [("DmlExecutionProvider", "runtime-directml"), ("NvTensorRTRTXExecutionProvider", "runtime-tensorrt-rtx")],
)
def test_a_target_that_was_never_run_is_said_to_be_so_and_has_no_figures_of_a_run(provider, extra):
    never = deepcopy(MANIFEST)
    never["params"]["targets"] = {"cpu-int4": {"provider": provider}}
    never["proved"] = {"model/model.onnx": ELSEWHERE}
    never["exported_only"] = True
    held_out, kept = never["quality"]["evaluate"]["travel"].values()
    for measured in (held_out, kept, never["quality"]["evaluate-base"]["general"]):
        measured["loss"] = {step: loss for step, loss in measured["loss"].items() if not step.endswith("_onnx")}
        del measured["kl_divergence"], measured["same_top_token"]
    text = render_card(never, {})
    assert "**Exported, its structure checked, never run.** The pipeline that made this release has not run it" in text
    assert f"({provider})" in text and f"olivepress[{extra}] @ git+" in text
    assert f"- `model/model.onnx`: {ELSEWHERE}: what it was made for never ran it" in text
    assert "evaluated" not in text.partition("## Quality")[2]
    assert not ModelCard(text).data.eval_results
    code = text.partition("```python\nimport onnxruntime_genai as og\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert "never run" not in card()


def test_a_text_template_is_in_the_code():
    text = card(params={**MANIFEST["params"], "text": {"template": "Q: {prompt}\\nA: {response}"}})
    assert r"prompt = 'Q: What is the best thing to see in Chicago?\nA: '" in text
    assert "apply_chat_template" not in text


def test_a_licence_text_does_not_end_the_block_that_it_stands_in():
    text = "one\n````\n# Heading\n```\ntwo"
    body = render_card(deepcopy(MANIFEST), {"LICENSE": text})
    assert f"\n`````text\n{text}\n`````\n" in f"{body}\n"
