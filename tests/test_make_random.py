"""tools/make_random.py: the configurations are the real ones, and the same seed gives the same bytes."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from safetensors import safe_open

from olivepress.core.outputs import sha256
from olivepress.quantize.calibration import calibration_blocks
from olivepress.tools.profile import compose
from tools import make_random


def run(out: Path, *options: str) -> dict[str, str]:
    """Run the command; file name -> SHA-256."""
    result = CliRunner().invoke(make_random.main, [*options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return {path.name: sha256(path) for path in sorted(out.iterdir())}


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_cores(tmp_path, monkeypatch):
    """Tensors are drawn in several chunks here, by one thread and by two; shards and index included."""
    monkeypatch.setattr(make_random, "CHUNK", 1000)
    monkeypatch.setattr(make_random, "SHARD_BYTES", 300_000)
    found = []
    for workers in (1, 2):
        monkeypatch.setattr(make_random, "ThreadPoolExecutor", lambda workers=workers: ThreadPoolExecutor(workers))
        found.append(run(tmp_path / str(workers), "--preset", "phi-3-tiny"))
    assert found[0] == found[1]
    assert sum(name.endswith(".safetensors") for name in found[0]) > 1
    other = run(tmp_path / "other", "--preset", "phi-3-tiny", "--seed", "1")
    weights = [name for name in other if name.endswith(".safetensors")]
    assert weights
    assert all(other[name] != found[0][name] for name in weights)
    assert other["config.json"] == found[0]["config.json"]


def test_the_preset_is_phi_3_5_mini(tmp_path):
    """Its published numbers: 3.82 billion parameters, and long-RoPE factors for half of a head's 96 channels."""
    import transformers

    settings = json.loads(make_random.PRESETS["phi-3.5-mini"].read_text())
    expected = {
        "model_type": "phi3",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }
    assert {key: settings[key] for key in expected} == expected
    scaling = settings["rope_scaling"]
    assert [len(scaling[key]) for key in ("long_factor", "short_factor")] == [48, 48]
    assert max(scaling["long_factor"]) > 20 * max(scaling["short_factor"])
    shapes = make_random.parameter_shapes(transformers.AutoConfig.for_model(**settings))
    assert sum(map(make_random.size, shapes.values())) == 3_821_079_552


@pytest.mark.parametrize("layers", [1, 3])
def test_the_checkpoint_is_the_model_that_transformers_builds(tmp_path, layers):
    """Every parameter, its shape and float16; nothing missing or left over when it is loaded, and it computes."""
    import torch
    import transformers

    out = tmp_path / "model"
    run(out, "--preset", "phi-3-tiny", "--layers", str(layers))
    config = transformers.AutoConfig.from_pretrained(out)
    assert config.num_hidden_layers == layers
    expected = {name: tuple(p.shape) for name, p in transformers.Phi3ForCausalLM(config).named_parameters()}
    with safe_open(out / "model.safetensors", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    for name, tensor in found.items():
        mean, spread = (1, 0.2) if tensor.dim() == 1 else (0, 0.02)
        assert tensor.float().mean().item() == pytest.approx(mean, abs=0.1), name
        assert tensor.float().std().item() == pytest.approx(spread, rel=0.3), name
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    text = "Grüße, 世界\n"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert max(ids) < config.vocab_size
    with torch.inference_mode():
        assert model(torch.tensor([ids])).logits.isfinite().all()


def test_nothing_is_overwritten_and_a_bad_configuration_is_explained(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "bad.json").write_text("{")
    for options, message in (
        (["--preset", "phi-3-tiny", "--out", str(tmp_path / "there")], "is there already"),
        (["--config", str(tmp_path / "bad.json"), "--out", str(tmp_path / "new")], "cannot be read as JSON"),
        (["--out", str(tmp_path / "new")], "give either --preset or --config"),
    ):
        result = CliRunner().invoke(make_random.main, options)
        assert result.exit_code != 0
        assert message in result.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("vocabulary", [1000, 32064])
def test_a_text_has_about_as_many_tokens_as_a_trained_model_makes_of_it(tmp_path, vocabulary):
    """Other texts than those that the merges were learnt from: English has four bytes or so to a token of 32,064."""
    import transformers

    settings = {"model_type": "phi3" if vocabulary > 32010 else "llama", "vocab_size": vocabulary, "eos_token_id": 5}
    make_random.write_tokenizer(settings, tmp_path, None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    lines = (make_random.TEXT.parent / "general.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [value for line in lines for value in json.loads(line).values()]
    encoded = [tokenizer.encode(text) for text in texts]
    assert [tokenizer.decode(ids) for ids in encoded] == texts
    share = sum(map(len, encoded)) / sum(len(text.encode()) for text in texts)
    assert 1 / 5 < share < (1 / 3 if vocabulary > 32010 else 1 / 2)
    assert len(tokenizer) == vocabulary
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == (32000 if vocabulary > 32010 else 5)


def test_the_calibration_text_has_as_many_tokens_as_the_profile_takes(tmp_path):
    """Merges make fewer tokens of a text than bytes do."""
    import transformers

    root = Path(make_random.__file__).parents[1]
    compose(root, ["profile=phi-3.5-mini-random"], tmp_path / "params.yaml")
    wanted = yaml.safe_load((tmp_path / "params.yaml").read_text())["quantize"]
    settings = json.loads(make_random.PRESETS["phi-3.5-mini"].read_text())
    make_random.write_tokenizer(settings, tmp_path / "tokenizer", None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    names = ("samples", "sequence_length", "seed")
    blocks = calibration_blocks(root / wanted["calibration_data"], tokenizer, **{name: wanted[name] for name in names})
    assert len(blocks) == wanted["samples"]
