"""Make a random-weight checkpoint of any Hugging Face configuration: python -m tools.make_random --help

For measuring time, memory, size and exactness at a size for which no weights are at hand; it says nothing about
quality. The configurations in tools/random-configs are Phi-3.5-mini-instruct's own (hidden 3072, 32 layers, its
long-RoPE factors), a 171 M-parameter Phi-3 for CPU benchmarks and a tiny one for tests.
"""

import json
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "random-configs").glob("*.json"))}
SHARD_BYTES = 2 << 30
TEXT = Path(__file__).parents[1] / "data/calibration.jsonl"  # articles: what the tokenizer's merges are learnt from
CHUNK = 1 << 22  # weights drawn by one thread at a time, each chunk from a seed of its own
NORM_SPREAD = 0.2  # norms are about 1 and differ, so that channels do
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
# Phi-3.5's own ids of the tokens that its chat template uses
PHI_SPECIAL = {
    "<unk>": 0,
    "<s>": 1,
    "</s>": 2,
    "<|endoftext|>": 32000,
    "<|assistant|>": 32001,
    "<|system|>": 32006,
    "<|end|>": 32007,
    "<|user|>": 32010,
}
# Phi-3.5's, less the generation mark-up that ONNX Runtime GenAI does not know
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), help="One of tools/random-configs.")
@click.option("--config", type=click.Path(exists=True, path_type=Path), help="A config.json, or a folder with one.")
@click.option("--tokenizer", type=click.Path(exists=True, path_type=Path), help="Folder to copy a tokenizer from.")
@click.option("--layers", type=click.IntRange(1), help="Instead of the configuration's number of layers.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write; must not exist.")
def main(
    preset: str | None, config: Path | None, tokenizer: Path | None, layers: int | None, seed: int, out: Path
) -> None:
    """Write a float16 checkpoint with random weights, and a tokenizer, to OUT."""
    if (preset is None) == (config is None):
        raise click.UsageError("give either --preset or --config")
    count = make(PRESETS[preset] if preset else config, out, layers=layers, seed=seed, tokenizer=tokenizer)
    click.echo(f"{out}: {count:,} parameters")


def make(config: Path, out: Path, *, layers: int | None = None, seed: int = 0, tokenizer: Path | None = None) -> int:
    """Write the checkpoint of ``config`` (the file, or a folder with one) whole or not at all; its parameters."""
    if out.exists():
        raise click.UsageError(f"--out: {out} is there already: delete it, or name another folder")
    source = config / "config.json" if config.is_dir() else config
    try:
        settings = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{source}: cannot be read as JSON ({error})") from error
    if layers:
        settings["num_hidden_layers"] = layers
    scratch = out.with_name(f".{out.name}.partial")  # so that a broken run leaves nothing that looks complete
    shutil.rmtree(scratch, ignore_errors=True)
    count = write_checkpoint(settings, scratch, seed=seed, tokenizer=tokenizer)
    scratch.rename(out)
    return count


def write_checkpoint(settings: dict[str, Any], out: Path, *, seed: int, tokenizer: Path | None = None) -> int:
    """Write config.json, float16 shards of at most 2 GiB and a tokenizer; returns the number of parameters.

    Matrices and biases are normal(0, ``initializer_range``), other vectors (norms) normal(1, 0.2). The same settings
    and seed give the same bytes, whatever the number of cores. Holds one shard in memory.
    """
    import transformers

    config = transformers.AutoConfig.for_model(**settings)
    shapes = parameter_shapes(config)
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    write_tokenizer(settings, out, tokenizer)
    std = getattr(config, "initializer_range", 0.02)
    write_shards(shapes, out, std=std, seed=seed)
    return sum(size(shape) for shape in shapes.values())


def parameter_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Parameter name -> shape of the causal language model of a configuration, tied ones once."""
    import torch
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def size(shape: tuple[int, ...]) -> int:
    """Number of elements."""
    count = 1
    for length in shape:
        count *= length
    return count


def write_shards(shapes: dict[str, tuple[int, ...]], out: Path, *, std: float, seed: int) -> None:
    """One safetensors file, or several and their index."""
    from safetensors.torch import save_file

    groups: list[list[str]] = [[]]
    room = SHARD_BYTES
    for name, shape in shapes.items():
        if groups[-1] and 2 * size(shape) > room:
            groups.append([])
            room = SHARD_BYTES
        groups[-1].append(name)
        room -= 2 * size(shape)
    files = [f"model-{n:05}-of-{len(groups):05}.safetensors" for n in range(1, len(groups) + 1)]
    if len(groups) == 1:
        files = ["model.safetensors"]
    with ThreadPoolExecutor() as pool:
        for file, names in zip(files, groups, strict=True):
            tensors = {name: draw(name, shapes[name], std, seed, pool) for name in names}
            save_file(tensors, out / file, metadata={"format": "pt"})
            click.echo(f"{file}: {len(names)} tensors", err=True)
    if len(groups) > 1:
        index = {
            "metadata": {"total_size": 2 * sum(map(size, shapes.values()))},
            "weight_map": {name: file for file, names in zip(files, groups, strict=True) for name in names},
        }
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def draw(name: str, shape: tuple[int, ...], std: float, seed: int, pool: ThreadPoolExecutor) -> Any:
    """A random float16 tensor; its numbers depend on ``seed``, its name and its size alone."""
    import numpy as np
    import torch

    result = torch.empty(size(shape), dtype=torch.float16)
    norm = len(shape) == 1 and not name.endswith("bias")

    def fill(begin: int) -> None:
        generator = np.random.default_rng([seed, zlib.crc32(name.encode()), begin])
        part = result[begin : begin + CHUNK]
        numbers = torch.from_numpy(generator.standard_normal(len(part), dtype=np.float32))
        part.copy_(numbers.mul_(NORM_SPREAD).add_(1) if norm else numbers.mul_(std))

    list(pool.map(fill, range(0, len(result), CHUNK)))
    return result.view(shape)


def write_tokenizer(settings: dict[str, Any], out: Path, source: Path | None) -> None:
    """Copy ``source``'s tokenizer, or make one; no id may reach ``vocab_size``."""
    if source is None:
        make_tokenizer(settings["vocab_size"], special_tokens(settings), out)
    else:
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)
    import transformers

    made = transformers.AutoTokenizer.from_pretrained(out)
    if len(made) > settings["vocab_size"]:
        raise click.ClickException(
            f"--tokenizer: {source} has {len(made)} tokens, the configuration's vocab_size is "
            f"{settings['vocab_size']}: take a tokenizer with fewer"
        )


def special_tokens(settings: dict[str, Any]) -> dict[str, int]:
    """Token -> id: Phi-3.5's where they fit, else the end token where the configuration has it and three at the end."""
    vocabulary = settings["vocab_size"]
    if settings["model_type"] == "phi3" and vocabulary > max(PHI_SPECIAL.values()):
        return PHI_SPECIAL
    end = settings.get("eos_token_id") or 0
    end = end[0] if isinstance(end, list) else end
    if vocabulary < 256 + 4 or end >= vocabulary - 3:
        raise click.ClickException(
            f"vocab_size {vocabulary}, eos_token_id {end}: no room for 256 bytes and 4 special tokens; give --tokenizer"
        )
    others = ("<|user|>", "<|assistant|>", "<|end|>")
    return {"<|endoftext|>": end, **{token: vocabulary - 3 + n for n, token in enumerate(others)}}


def learnt_merges(most: int) -> tuple[list[str], list[tuple[str, str]]]:
    """At most ``most`` tokens, all bytes first, and the merges that make the others of pairs that TEXT has twice."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = (json.loads(line)["text"] for line in TEXT.read_text(encoding="utf-8").splitlines())
    trainer = trainers.BpeTrainer(vocab_size=most, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [tuple(merge) for merge in model["merges"]]


def make_tokenizer(vocabulary: int, special: dict[str, int], out: Path) -> None:
    """Byte-level BPE with the merges of TEXT, and words that no text contains to fill the vocabulary.

    So a text has about as many tokens as a trained model's tokenizer makes of it, and takes as long as it takes there.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {number: token for token, number in special.items()}
    tokens, merges = learnt_merges(vocabulary - len(special))
    words = iter(tokens)
    for number in range(vocabulary):
        if number not in names:
            names[number] = next(words, f"\u0120word{number}")
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in sorted(names.items())}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    end = "<|endoftext|>"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if "<s>" in special else end, eos_token=end, pad_token=end
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(out)
    path = out / "tokenizer_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    # transformers 5 writes a class name that older readers, and GenAI's builder, do not know
    path.write_text(json.dumps({**saved, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
