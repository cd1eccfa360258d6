// Streams a release's answer: node chat.mjs RELEASE ADAPTER QUESTION; "" for no adapter. After: npm ci --ignore-scripts
// `olivepress package` wrote release.json and model.onnx here: where each LoRA input lies in an adapter's file, and the
// graph without their defaults, which JavaScript could not replace.
import fs from "node:fs";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import ort from "onnxruntime-node";

const here = import.meta.dirname, [folder, adapter, question] = process.argv.slice(2);
const json = (file) => JSON.parse(fs.readFileSync(file, "utf8"));
const app = json(`${here}/release.json`), tokenizer = new Tokenizer(json(`${folder}/model/tokenizer.json`), {});
const messages = [{ role: "user", content: question }];
const text = new Template(app.template).render({ messages, add_generation_prompt: true, ...app.special });
const weights = { session: { model_external_initializers_file_folder_path: `${folder}/model` } };
const session = await ort.InferenceSession.create(fs.readFileSync(`${here}/model.onnx`), { extra: weights });

const kinds = { float16: Uint16Array, float32: Float32Array };
const tensor = (type, shape, bytes = new ArrayBuffer(0)) => new ort.Tensor(type, new kinds[type](bytes), shape);
const numbers = (list) => new ort.Tensor("int64", BigInt64Array.from(list, BigInt), [1, list.length]);
const values = adapter && fs.readFileSync(`${folder}/adapters/${adapter}.onnx_adapter`);
const feeds = {};
for (const [name, { type, shape }] of Object.entries({ ...app.past, ...app.lora })) {
  const found = adapter ? app.adapters[adapter][name] : null; // without: rank zero, and nothing said yet
  const bytes = found && Uint8Array.from(values.subarray(found.start, found.end)).buffer;
  feeds[name] = tensor(type, found?.shape ?? shape, bytes ?? undefined);
}
const tokens = [];
let ids = [...tokenizer.encode(text, { add_special_tokens: false }).ids], length = 0, said = "";
while (tokens.length < 128 && !app.end.includes(tokens.at(-1))) {
  Object.assign(feeds, { input_ids: numbers(ids), attention_mask: numbers(Array(length + ids.length).fill(1)) });
  if (app.positions) feeds.position_ids = numbers(ids.map((_, place) => length + place));
  const results = await session.run(feeds), row = results.logits.data.subarray(-results.logits.dims[2]);
  for (const name in app.past) feeds[name] = results[name.replace("past_key_values.", "present.")];
  length += ids.length;
  ids = [row.reduce((best, logit, token) => (logit > row[best] ? token : best), 0)];
  tokens.push(...ids);
  const whole = tokenizer.decode(tokens, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  if (!whole.endsWith("\ufffd")) process.stdout.write(whole.slice(said.length)), (said = whole);
}
console.error(`\n${tokens.length} tokens`);
