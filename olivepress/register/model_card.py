"""The model card: a manifest as Markdown, with the metadata header that model hubs read."""

import re
from collections.abc import Mapping
from typing import Any

from olivepress.core.artifact import ADAPTER_SUFFIX, LIBRARIES, MODEL, OPERATORS
from olivepress.core.proof import LEVELS, never_run
from olivepress.core.providers import CPU, CUDA, DIRECTML, TENSORRT_RTX, WEBGPU
from olivepress.core.template import render_prompt, unescape
from olivepress.register.card_header import base_model, licence_fields, render_header

# The oldest versions that load what this project exports (pyproject.toml's extra `runtime` has the same).
RUNTIME = {"onnxruntime": "1.26", "onnxruntime-genai": "0.14.1"}
# a provider -> its extra, the oldest ONNX Runtime that has it, and what else has to be said of the install
EXTRAS = {
    CPU: ("runtime", RUNTIME["onnxruntime"], ""),
    CUDA: ("runtime-cuda", RUNTIME["onnxruntime"], ", both in their builds for CUDA 12"),
    WEBGPU: ("runtime-webgpu", "1.31", ", and onnxruntime-ep-webgpu, the plug-in that computes on a GPU by WebGPU"),
    DIRECTML: ("runtime-directml", "1.24", ", both in their builds for DirectML, which are for Windows"),
    TENSORRT_RTX: (
        "runtime-tensorrt-rtx",
        RUNTIME["onnxruntime"],
        ", and onnxruntime-ep-nv-tensorrt-rtx, NVIDIA's plug-in for RTX cards",
    ),
}
PLUG_INS = {WEBGPU: "onnxruntime_ep_webgpu", TENSORRT_RTX: "onnxruntime_ep_nv_tensorrt_rtx"}
QUESTION = "What is the best thing to see in Chicago?"

BODY = """\
# {name} {version} ({target})

{architecture} with {parameters:,} parameters, quantized with {algorithm} to {bits} bits a weight (whole checkpoint:
{bits_per_weight} bits, {size_percent:.0f}% of the original bytes) and exported to ONNX Runtime GenAI with open LoRA
inputs: one base, any of its adapters ({adapters}), or none.
{warning}
## Install

It needs Python 3.11 or newer, onnxruntime {onnxruntime} or newer and onnxruntime-genai {genai} or newer{besides}.
`olivepress` brings {both}. Install it from the repository of this release, at the release's own commit:

```sh
repository=…  # where you have this release from
commit=$(git ls-remote "$repository" 'refs/tags/{name}@v{version}^{{}}' | cut -f 1)
pip install "olivepress[{extra}] @ git+$repository@$commit"
```

pip reads the @ in the tag's name as its own, hence the commit. uv takes the tag, too, the @ written as %40:
`uv pip install "olivepress[{extra}] @ git+$repository@{name}%40v{version}"`.

## Use

In the folder of this card:

```python
import olivepress

model = olivepress.load(".")
print(model.answer("{question}", "{adapter}").text)
```

`model.stream` gives the text as it comes, `model.answers` takes many prompts, both take conversations, a system prompt,
sampling options and stop texts; `model.adapters` names the adapters. With onnxruntime-genai alone:

```python
import onnxruntime_genai as og
{plug_in}
model = og.Model("model")
adapters = og.Adapters(model)
{load_adapters}
tokenizer = og.Tokenizer(model)
{prompt}
tokens = tokenizer.encode(prompt)
params = og.GeneratorParams(model)
params.set_search_options(max_length=len(tokens) + 256, do_sample=False)
generator = og.Generator(model, params)
generator.set_active_adapter(adapters, "{adapter}")
generator.append_tokens(tokens)
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)[len(tokens):]))
```
{native}
## Quality

Mean loss on held-out rows, in nats per token of the answers (lower is better), along the pipeline; general questions,
which no adapter was trained for, also with each adapter on, to show what it forgets:

| data | base | quantized | + adapter | quantized, ONNX Runtime | + adapter, ONNX Runtime |
|---|---:|---:|---:|---:|---:|
{losses}

What was proved to work before this was released:

{proved}

ONNX Runtime against PyTorch on the same weights and rows:

| data | adapter | graph | loss | KL divergence, nats per token | same top token |
|---|---|---|---:|---:|---:|
{agreement}

## Where it comes from

- base: `{source}`
- trained on {trained_on}
- every file, input hash and parameter: `manifest.json`
- loss curves, intervals, answers side by side and differences as a page: `olivepress report`, in a checkout of the
  release's commit

## Licence

{licence}, as the base. {licence_texts}

## Limits

It knows what its base and its adapters' data taught it, and can be wrong with confidence. The figures above are for
the data sets named there and say nothing about others. The base's licence and limits apply.
"""

NEVER_RUN = """
**Exported, its structure checked, never run.** The pipeline that made this release has not run it on what it was made
for ({provider}). What was done in its place stands below, under Quality; the losses are PyTorch's, on the same weights.
Nobody has measured how it answers, or how fast.
"""

NATIVE = """
The folder has native code for Linux, which ONNX Runtime loads with the model:
{libraries}.
`olivepress.load` takes the machine's own, `genai_config.json` names x86-64's; for a CUDA target the GPU's compute
capability has to be 8.0 or higher. The libraries were built from the pipeline's own sources (`operators/`). Their
hashes are in `manifest.json`: check them as you would a program's.
"""

BOTH = """
The folder has two graphs over the same weights and adapters. `model/{portable}` is portable, and is what
onnxruntime-genai loads. `model/{operators}` calls native code for Linux:
{libraries}.
`olivepress.load` takes it where the processor has what makes it fast (AVX2; on ARM the dot product), and says which it
took; `olivepress.load(".", graph="portable")` and `OLIVEPRESS_GRAPH=portable` force the other. Both are held to PyTorch
by the same thresholds; metrics below that name no graph are the portable one's. The libraries were built from the
pipeline's own sources (`operators/`). Their hashes are in
`manifest.json`: check them as you would a program's.
"""

PLUG_IN = """\
import {module}

og.register_execution_provider_library({name}, {module}.get_library_path())
"""


def render_card(manifest: dict[str, Any], licence_texts: Mapping[str, str]) -> str:
    """Header and Markdown for a manifest of build_manifest, with the licence files that came with the base.

    ``licence_texts``: file name -> its text.
    """
    measured = _measured(manifest["quality"])
    header = render_header(
        f"{manifest['name']} {manifest['version']}",
        licence=licence_fields(manifest["licence"], [f"model/{name}" for name in licence_texts]),
        base=base_model(manifest["base"]["source"]),
        tags=["onnx", "onnxruntime-genai", "lora", manifest["params"]["quantize"]["algorithm"]],
        metrics=_metrics(measured),
    )
    return header + _body(manifest, measured, licence_texts)


def _measured(quality: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Data set -> its metrics at every step: each adapter's held-out rows, general ones, these with each adapter."""
    own = {name: sets["held_out"] for name, sets in quality["evaluate"].items()}
    kept = {f"general with {name}": sets["general"] for name, sets in quality["evaluate"].items()}
    return {**own, "general": quality["evaluate-base"]["general"], **kept}


def _metrics(measured: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, float]]:
    """What ships, through ONNX Runtime: each data set's loss with its adapter, or without one where it has none."""
    title = "mean negative log-likelihood, nats per answer token"
    found = []
    for data, metrics in measured.items():
        if not {"finetuned_onnx", "quantized_onnx"} & metrics["loss"].keys():
            continue  # what ships was never run
        adapted = "finetuned_onnx" in metrics["loss"]
        who = f"adapter {data.removeprefix('general with ')}" if adapted else "no adapter"
        loss = metrics["loss"]["finetuned_onnx" if adapted else "quantized_onnx"]
        found.append((data, "loss", f"{title}, {who}", loss))
    return found


def _body(manifest: dict[str, Any], measured: dict[str, dict[str, Any]], licence_texts: Mapping[str, str]) -> str:
    quality, base, params = manifest["quality"], manifest["base"], manifest["params"]
    quantize, names = quality["quantize"], manifest["adapters"]
    provider = params["targets"][manifest["target"]]["provider"]
    extra, onnxruntime, besides = EXTRAS[provider]
    losses, agreement = [], []
    for data, metrics in measured.items():
        loss = metrics["loss"]
        columns = ("base", "quantized", "finetuned", "quantized_onnx", "finetuned_onnx")
        steps = " | ".join(f"{loss[step]:.3f}" if step in loss else "" for step in columns)
        losses.append(f"| {data} | {steps} |")
        for step, divergence in metrics.get("kl_divergence", {}).items():
            adapted, native = step.startswith("finetuned"), step.endswith("_operators")
            if data.startswith("general with ") and not adapted:
                continue  # that is general itself
            adapter = data.removeprefix("general with ") if adapted else "none"
            graph, exported = (OPERATORS, step) if native else (MODEL, f"{step}_onnx")
            same = f"{100 * metrics['same_top_token'][step]:.1f}%"
            measures = f"{loss[exported]:.3f} | {divergence:.1e} | {same}"
            agreement.append(f"| {data} | {adapter} | `{graph}` | {measures} |")
    return BODY.format(
        name=manifest["name"],
        version=manifest["version"],
        target=manifest["target"],
        architecture=base["architecture"],
        parameters=base["parameters"],
        algorithm=params["quantize"]["algorithm"],
        bits=quantize["bits_per_quantized_weight"],
        bits_per_weight=quantize["bits_per_weight"],
        size_percent=100 * quantize["size_ratio"],
        adapters=", ".join(names),
        onnxruntime=onnxruntime,
        genai=RUNTIME["onnxruntime-genai"],
        besides=besides,
        both="all three" if provider in PLUG_INS else "both",
        extra=extra,
        plug_in=_plug_in(provider),
        warning=NEVER_RUN.format(provider=provider) if never_run(manifest) else "",
        question=QUESTION,
        adapter=names[0],
        load_adapters="\n".join(f'adapters.load("adapters/{name}{ADAPTER_SUFFIX}", "{name}")' for name in names),
        prompt=_prompt(params["text"]["template"]),
        native=_native(manifest["files"]),
        proved="\n".join(f"- `{file}`: {level}: {LEVELS[level]}" for file, level in manifest["proved"].items()),
        losses="\n".join(losses),
        agreement="\n".join(agreement),
        source=base["source"],
        trained_on=", ".join(
            _trained_on(
                quality["prepare"][name],
                quality.get("finetune", {}).get(name, {}),
                params["adapters"][name]["data"],
                name,
            )
            for name in names
        ),
        licence=manifest["licence"],
        licence_texts=_licences(licence_texts),
    )


def _plug_in(provider: str) -> str:
    """The lines of Python that have GenAI know a provider that is a plug-in."""
    module = PLUG_INS.get(provider)
    if module is None:
        return ""
    return PLUG_IN.format(module=module, name=f'"{WEBGPU}"' if provider == WEBGPU else f"{module}.get_ep_name()")


def _native(files: Mapping[str, Any]) -> str:
    """What a reader has to know of native code in the folder."""
    there = [f"`model/{name}` ({processor})" for processor, name in LIBRARIES.items() if f"model/{name}" in files]
    if f"model/{OPERATORS}" in files:
        return BOTH.format(libraries=" and ".join(there), portable=MODEL, operators=OPERATORS)
    return NATIVE.format(libraries=" and ".join(there)) if there else ""


def _trained_on(prepared: dict[str, Any], trained: dict[str, Any], data: str, name: str) -> str:
    """What an adapter was trained on, and of preferences how often it is right about those that were held out."""
    rows = prepared["train"]["rows"]
    if "reward_accuracy" not in trained:
        return f"{name}: {rows} rows ({data})"
    right = f"{100 * trained['reward_accuracy']['best']:.0f}% of {trained['held_out']['rows']}"
    return f"{name}: {rows} preferences ({data}), right about {right} that were held out"


def _prompt(template: str) -> str:
    """The lines of Python that make the text that the model was trained to see for a question."""
    if template != "chat":
        return f"prompt = {render_prompt(unescape(template), QUESTION)!r}"
    return (
        f'messages = \'[{{"role": "user", "content": "{QUESTION}"}}]\'\n'
        "prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)"
    )


def _licences(texts: Mapping[str, str]) -> str:
    if not texts:
        return "The base came without a licence file: look at where it comes from."
    blocks = []
    for name, text in texts.items():
        # longer than any in the text, which is somebody else's and ends where it ends
        fence = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
        blocks.append(f"`model/{name}`:\n\n{fence}text\n{text.strip()}\n{fence}")
    return "\n\n".join(["Its files travel with the model:", *blocks])
