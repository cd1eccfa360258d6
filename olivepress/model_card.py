"""The model card: a manifest as Markdown, with the metadata header that model hubs read."""

from collections.abc import Mapping
from typing import Any

from olivepress.lora_operator import LIBRARY

TEMPLATE = """\
---
license: {licence_id}
base_model: {source}
pipeline_tag: text-generation
library_name: onnxruntime-genai
tags: [onnx, onnxruntime-genai, lora, {algorithm}]
---
# {name} {version} ({target})

{architecture} with {parameters:,} parameters, quantized with {algorithm} to {bits} bits a weight (whole checkpoint:
{bits_per_weight} bits, {size_percent:.0f}% of the original bytes) and exported to ONNX Runtime GenAI with open LoRA
inputs: one base, any of the adapters below, or none.

## Use

```python
import onnxruntime_genai as og

model = og.Model("model")
adapters = og.Adapters(model)
{load_adapters}
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=256)
generator = og.Generator(model, params)
generator.set_active_adapter(adapters, "{first_adapter}")
prompt = '[{{"role": "user", "content": "what is the best thing to see in chicago"}}]'
generator.append_tokens(tokenizer.encode(tokenizer.apply_chat_template(prompt, add_generation_prompt=True)))
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)))
```
{native}
## Quality

Mean loss on held-out rows, in nats per token (lower is better), along the pipeline:

| data | base | quantized | + adapter | quantized, ONNX Runtime | + adapter, ONNX Runtime |
|---|---:|---:|---:|---:|---:|
{losses}

ONNX Runtime against PyTorch on the same weights:

| adapter | relative error of the logits | same top token |
|---|---:|---:|
{agreement}

## Where it comes from

- base: `{source}`
- trained on {trained_on}
- every file, input hash and parameter: `manifest.json`

## Licence

{licence}, as the base. {licence_texts}

## Limits

It knows what its base and its adapters' data taught it, and can be wrong with confidence. The figures above are for
the data sets named there and say nothing about others. The base's licence and limits apply.
"""

NATIVE = """
`model/{library}` is native code, which ONNX Runtime loads with the model: Linux on x86-64, and for a CUDA target a GPU
of compute capability 8.0 or higher. It was built from the pipeline's own sources (`olivepress/native`). Its hash is in
`manifest.json`: check it as you would a program's.
"""


def render_card(manifest: dict[str, Any], licence_texts: Mapping[str, str]) -> str:
    """Markdown for a manifest of olivepress.manifest.build_manifest, with the licence files that came with the base.

    ``licence_texts``: file name -> its text.
    """
    quality, base = manifest["quality"], manifest["base"]
    quantize, evaluation, names = quality["quantize"], quality["evaluate"], manifest["adapters"]
    losses = []
    for data, loss in evaluation["loss"].items():
        columns = ("base", "quantized", "finetuned", "quantized_onnx", "finetuned_onnx")
        steps = " | ".join(f"{loss[step]:.3f}" if step in loss else "" for step in columns)
        losses.append(f"| {data} | {steps} |")
    agreement = [
        f"| {adapter} | {figures['relative_error']:.1e} | {100 * figures['same_top_token']:.1f}% |"
        for adapter, figures in evaluation["agreement"].items()
    ]
    return TEMPLATE.format(
        licence_id=manifest["licence"].lower(),
        licence=manifest["licence"],
        licence_texts=_licences(licence_texts),
        source=base["source"],
        name=manifest["name"],
        version=manifest["version"],
        target=manifest["target"],
        architecture=base["architecture"],
        parameters=base["parameters"],
        algorithm=manifest["params"]["quantize"]["algorithm"],
        bits=quantize["bits_per_quantized_weight"],
        bits_per_weight=quantize["bits_per_weight"],
        size_percent=100 * quantize["size_ratio"],
        load_adapters="\n".join(f'adapters.load("adapters/{name}.onnx_adapter", "{name}")' for name in names),
        first_adapter=names[0],
        native=NATIVE.format(library=LIBRARY) if f"model/{LIBRARY}" in manifest["files"] else "",
        losses="\n".join(losses),
        agreement="\n".join(agreement),
        trained_on=", ".join(
            f"{name}: {quality['prepare'][name]['train']['rows']} rows ({manifest['params']['adapters'][name]['data']})"
            for name in names
        ),
    )


def _licences(texts: Mapping[str, str]) -> str:
    if not texts:
        return "The base came without a licence file: look at where it comes from."
    blocks = [f"`model/{name}`:\n\n```text\n{text.strip()}\n```" for name, text in texts.items()]
    return "\n\n".join(["Its files travel with the model:", *blocks])
