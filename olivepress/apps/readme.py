"""The words in a package: what lies where, and the commands that run each sample with this very release."""

from typing import Any

TEMPLATE = "template.jinja"  # in apps/, where a text template takes the place of the model's chat template
# as requirements.txt and docker/requirements-cuda12.txt have them
FOR_CPU = "onnxruntime==1.26.0 onnxruntime-genai==0.14.1"
FOR_CUDA = "'onnxruntime-gpu[cuda,cudnn]==1.26.0' onnxruntime-genai-cuda==0.14.1"
WITHOUT = "This target has no sample in JavaScript, which runs portable graphs on the CPU."
QUESTION = "What is the best thing to see in Chicago?"


def readme(manifest: dict[str, Any], *, for_cuda: bool, javascript: bool, chat: bool) -> str:
    """README.md of the package of a release. ``javascript``: whether it has that sample; ``chat``: no text template."""
    adapters = manifest["adapters"]
    words = f"../../release '{adapters[0] if adapters else ''}' '{QUESTION}'"
    own = words if chat else f"{words} ../{TEMPLATE}"
    return f"""\
# {manifest["name"]} {manifest["version"]}, for {manifest["target"]}

`release/` is the release, with its card. `apps/` has programs that stream its answers, with an adapter
({", ".join(adapters) or "there is none"}) or, with '' in its place, without. `licences/` has the licence texts of the
model ({manifest["licence"]}) and of what runs it. `sha256sum --check SHA256SUMS` checks every file.

## Python

```sh
cd apps/python
pip install {FOR_CUDA if for_cuda else FOR_CPU}
python chat.py {own}
```

## JavaScript

{_javascript(words) if javascript else WITHOUT}

## C++

With ONNX Runtime and GenAI of the Python packages above, on Linux:

```sh
cd apps/cpp
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
genai=$site/onnxruntime_genai
g++ -std=c++17 -O2 chat.cpp -o chat "$genai/libonnxruntime-genai.so" -Wl,-rpath,"$genai"
export ORT_LIB_PATH=$(echo "$site"/onnxruntime/capi/libonnxruntime.so.*)
./chat {own}
```

The samples take a question as it is, control tokens of the model included, and answer up to 128 tokens, the likeliest
ones. What serves strangers refuses control tokens first, as `olivepress.load` and `olivepress serve` do.
"""


def _javascript(words: str) -> str:
    return f"""```sh
cd apps/javascript
npm ci --ignore-scripts
node chat.mjs {words}
```"""
