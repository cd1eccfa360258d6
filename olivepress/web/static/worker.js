// Loads the model and answers: greedy decoding with a key-value cache, token by token.
import * as ort from "./packages/onnxruntime.js";
import { Template } from "./packages/jinja.js";
import { Tokenizer } from "./packages/tokenizers.js";

const here = (name) => new URL(name, import.meta.url).href;
const tell = (kind, values = {}) => postMessage({ kind, ...values });
let page, tokenizer, template, session, stopped = false;
const adapters = new Map(); // name -> input -> tensor, of those that were asked for

async function get(name) {
  const response = await fetch(here(name));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}
const json = async (name) => (await get(name)).json();
const bytes = async (name) => new Uint8Array(await (await get(name)).arrayBuffer());

async function unpacked(name) {
  const found = await bytes(name);
  if (found[0] !== 0x1f || found[1] !== 0x8b) return found; // the server has unpacked it
  const stream = new Blob([found]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  const begun = performance.now();
  tell("loading", { what: "the tokenizer" });
  page = await json("page.json");
  tokenizer = new Tokenizer(await json("model/tokenizer.json"), {});
  template = page.template === null ? null : new Template(page.template);
  const found = encode([{ role: "user", content: page.probe.prompt }]);
  if (JSON.stringify(found) !== JSON.stringify(page.probe.tokens)) {
    throw new Error(`The page reads text otherwise than ONNX Runtime GenAI: [${found}], expected [${page.probe.tokens}].`);
  }
  tell("loading", { what: "ONNX Runtime" });
  // threads share memory, which browsers allow a page that its server isolates from others (docs/browser.md)
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, Math.ceil(navigator.hardwareConcurrency / 2)) : 1;
  ort.env.wasm.wasmPaths = { mjs: here("packages/onnxruntime-wasm.js") };
  ort.env.wasm.wasmBinary = await unpacked("packages/onnxruntime.wasm.gz");
  tell("loading", { what: "the model" });
  const externalData = await Promise.all(page.weights.map(async (path) => ({ path, data: await bytes(`model/${path}`) })));
  session = await ort.InferenceSession.create(await bytes("model/model.onnx"), { executionProviders: ["wasm"], externalData });
  const seconds = (performance.now() - begun) / 1000;
  tell("ready", { name: page.title, adapters: Object.keys(page.adapters), seconds, threads: ort.env.wasm.numThreads });
}

function render(messages) {
  if (template) return template.render({ messages, add_generation_prompt: true, ...page.special });
  if (messages.length > 1) throw new Error("The model was trained on single questions: begin again for another.");
  return page.text_template
    .replaceAll(/\{\{|\}\}|\{prompt\}/g, (found) => (found === "{prompt}" ? messages[0].content : found[0]));
}
const encode = (messages) => [...tokenizer.encode(render(messages), { add_special_tokens: false }).ids];

const SIZES = { float16: Uint16Array, float32: Float32Array };
// Chromium's Float16Array is asked for where there is one
const tensor = (type, buffer, shape) => new ort.Tensor(
  type, type === "float16" && self.Float16Array ? new Float16Array(buffer) : new SIZES[type](buffer), shape);
const whole = (numbers) => new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);

/** The LoRA inputs: an adapter's values, and rank zero where it has none. */
async function loraInputs(name) {
  if (adapters.has(name)) return adapters.get(name);
  const adapter = name === null ? { values: {} } : page.adapters[name];
  const data = name === null ? null : (await bytes(adapter.file)).buffer;
  const inputs = {};
  for (const [input, { type, shape }] of Object.entries(page.lora)) {
    const value = adapter.values[input];
    const size = value && value.shape.reduce((a, b) => a * b) * SIZES[type].BYTES_PER_ELEMENT;
    inputs[input] = value
      ? tensor(type, data.slice(value.start, value.start + size), value.shape)
      : tensor(type, new ArrayBuffer(0), shape);
  }
  adapters.set(name, inputs);
  return inputs;
}

const pause = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); resolve(); };
  port2.postMessage(null);
});

/** The place of the largest of the last token's logits; of equal ones the first, as GenAI has it. */
function likeliest(logits) {
  const [, places, vocabulary] = logits.dims;
  const row = logits.data.subarray((places - 1) * vocabulary);
  let best = 0;
  for (let token = 1; token < vocabulary; token++) if (row[token] > row[best]) best = token;
  if (!Number.isFinite(Number(row[best]))) throw new Error("The logits are not finite: the model is broken.");
  return best;
}

async function answer({ messages, adapter, most }) {
  const said = messages.at(-1).content, control = page.control.find((token) => said.includes(token));
  if (control) throw new Error(`The question has ${control}, a control token of the model. Take it out.`);
  const prompt = encode(messages);
  const room = page.context - prompt.length;
  if (room < 1) throw new Error(`The conversation has ${prompt.length} tokens, the model's context ${page.context}: begin again.`);
  const lora = await loraInputs(adapter);
  let past = {};
  for (const [name, { type, shape }] of Object.entries(page.past)) past[name] = tensor(type, new ArrayBuffer(0), shape);
  const tokens = [], begun = performance.now();
  let ids = prompt, length = 0, first = 0, text = "", ended = "length";
  const rate = () => (tokens.length > 1 ? ((tokens.length - 1) * 1000) / (performance.now() - begun - first) : 0);
  stopped = false;
  while (tokens.length < Math.min(most, room)) {
    const feeds = { ...lora, ...past, input_ids: whole(ids), attention_mask: whole(Array(length + ids.length).fill(1)) };
    if (page.fed.includes("position_ids")) feeds.position_ids = whole(ids.map((_, place) => length + place));
    const results = await session.run(feeds);
    length += ids.length;
    const token = likeliest(results.logits);
    tokens.push(token);
    if (tokens.length === 1) first = performance.now() - begun;
    if (page.end.includes(token)) { ended = "end"; break; }
    for (const name of Object.keys(past)) past[name] = results[name.replace("past_key_values.", "present.")];
    ids = [token];
    const decoded = tokenizer.decode(tokens, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    if (!decoded.endsWith("\ufffd")) text = decoded; // else a character that the next token completes
    tell("piece", { text, tokens, rate: rate() });
    await pause(); // a "stop" is read here
    if (stopped) { ended = "stop"; break; }
  }
  tell("done", { text, tokens, rate: rate(), first: first / 1000, ended });
}

const guarded = (work) => work.catch((error) => tell("wrong", { text: error.message ?? String(error) }));
self.onmessage = ({ data }) => {
  if (data.kind === "stop") stopped = true;
  else guarded(answer(data));
};
guarded(load());
