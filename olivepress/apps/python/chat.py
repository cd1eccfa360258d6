"""Streams a release's answer: python chat.py RELEASE ADAPTER QUESTION [TEMPLATE]; "" for no adapter.

pip install onnxruntime==1.26.0 onnxruntime-genai==0.14.1
"""

import hashlib
import json
import sys
from pathlib import Path

import onnxruntime_genai as og

MOST = 128  # tokens of an answer

folder, adapter, question = Path(sys.argv[1]), *sys.argv[2:4]
for name, entry in json.loads((folder / "manifest.json").read_text("utf-8"))["files"].items():
    with (folder / name).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            sys.exit(f"{name}: is not what manifest.json says")
model = og.Model(str(folder / "model"))
tokenizer = og.Tokenizer(model)
template = {"template_str": Path(sys.argv[4]).read_text("utf-8")} if sys.argv[4:] else {}
messages = json.dumps([{"role": "user", "content": question}])
prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=True, **template))
params = og.GeneratorParams(model)
params.set_search_options(max_length=len(prompt) + MOST, do_sample=False)
generator, adapters = og.Generator(model, params), og.Adapters(model)
if adapter:  # before the prompt is read
    adapters.load(str(folder / "adapters" / f"{adapter}.onnx_adapter"), adapter)
    generator.set_active_adapter(adapters, adapter)
generator.append_tokens(prompt)
stream, tokens = tokenizer.create_stream(), 0
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
    tokens += 1
print(f"\n{tokens} tokens", file=sys.stderr)
