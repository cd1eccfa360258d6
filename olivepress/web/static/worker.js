// Loads the model and answers, token by token, with a key-value cache.
import { gpu, open } from "./compute.js";
import { bytes, json } from "./files.js";
import { Template } from "./packages/jinja.js";
import { Tokenizer } from "./packages/tokenizers.js";
import { chooser } from "./sampling.js";

const tell = (kind, values = {}) => postMessage({ kind, ...values });
let page, tokenizer, template, computer, stopped = false;
const adapters = new Map(); // name -> input -> tensor, of those that were asked for
const present = (past) => past.replace("past_key_values.", "present.");

/** Loads all of the page. `wanted`: "webgpu", "wasm", or "auto", which is WebGPU where there is a GPU. */
async function load({ wanted }) {
  const begun = performance.now();
  tell("loading", { what: "the tokenizer" });
  page = await json("page.json");
  tokenizer = new Tokenizer(await json("model/tokenizer.json"), {});
  template = page.template === null ? null : new Template(page.template);
  const found = encode([{ role: "user", content: page.probe.prompt }]);
  if (JSON.stringify(found) !== JSON.stringify(page.probe.tokens)) {
    throw new Error(`The page reads text otherwise than ONNX Runtime GenAI: [${found}], expected [${page.probe.tokens}].`);
  }
  tell("loading", { what: "the model" });
  const weights = await Promise.all(page.weights.map(async (path) => ({ path, data: await bytes(`model/${path}`) })));
  const opened = async (device) => {
    tell("loading", { what: `ONNX Runtime on ${device === "webgpu" ? "WebGPU" : "WebAssembly"}` });
    computer = await open(device, await bytes(`model/${page.graphs[device]}`), weights, Object.keys(page.past).map(present));
  };
  const card = await gpu().catch((error) => ({ hindrance: error.message }));
  let why = card.hindrance && `No WebGPU: ${card.hindrance}.`;
  if (!why && wanted === "auto" && card.software) why = `WebGPU is software here (${card.name}), and slower: not taken.`;
  if (wanted === "wasm") why = "";
  else if (!why) await opened("webgpu").catch((error) => { why = `WebGPU failed: ${error.message}`; });
  if (!computer) await opened("wasm");
  tell("ready", {
    name: page.title, adapters: Object.keys(page.adapters), search: page.search, seconds: (performance.now() - begun) / 1000,
    device: computer.device, card: card.name, threads: computer.threads, why,
  });
}

function render(messages) {
  if (template) return template.render({ messages, add_generation_prompt: true, ...page.special });
  if (messages.length > 1) throw new Error("The model was trained on single questions: begin again for another.");
  return page.text_template
    .replaceAll(/\{\{|\}\}|\{prompt\}/g, (found) => (found === "{prompt}" ? messages[0].content : found[0]));
}
const encode = (messages) => [...tokenizer.encode(render(messages), { add_special_tokens: false }).ids];

const tensor = (values, shape) => new computer.ort.Tensor("float32", values, shape);
const whole = (numbers) => new computer.ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);

/** float16 as float32: the bits where float32 has them, times what the exponents' zeros are apart. */
const widened = (halves) => new Float32Array(
  Uint32Array.from(halves, (bits) => ((bits & 0x8000) << 16) | ((bits & 0x7fff) << 13)).buffer).map((each) => each * 2 ** 112);

/** The LoRA inputs: an adapter's values, and zeros of rank one where it has none. */
async function loraInputs(name) {
  if (adapters.has(name)) return adapters.get(name);
  const adapter = name === null ? { values: {} } : page.adapters[name];
  const data = name === null ? null : (await bytes(adapter.file)).buffer;
  const inputs = {};
  for (const [input, unused] of Object.entries(page.lora)) {
    const { type, start, shape } = adapter.values[input] ?? { shape: unused };
    const size = shape.reduce((a, b) => a * b);
    const values = type === "float16" ? widened(new Uint16Array(data, start, size))
      : type === "float32" ? new Float32Array(data, start, size) : new Float32Array(size);
    inputs[input] = computer.keep(tensor(values, shape));
  }
  adapters.set(name, inputs);
  return inputs;
}

const pause = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); resolve(); };
  port2.postMessage(null);
});

/** The cache, and one step on from it: the last token's logits. */
class Cache {
  constructor() {
    this.length = 0;
    this.past = {};
    for (const [name, shape] of Object.entries(page.past)) this.past[name] = tensor(new Float32Array(0), shape);
  }

  async step(ids, lora) {
    const feeds = { ...lora, ...this.past, input_ids: whole(ids), attention_mask: whole(Array(this.length + ids.length).fill(1)) };
    if (page.fed.includes("position_ids")) feeds.position_ids = whole(ids.map((_, place) => this.length + place));
    const results = await computer.session.run(feeds);
    this.free();
    for (const name of Object.keys(this.past)) this.past[name] = results[present(name)];
    this.length += ids.length;
    const { dims: [, places, vocabulary], data } = results.logits;
    return data.subarray((places - 1) * vocabulary);
  }

  get location() { return Object.values(this.past)[0].location; }

  free() { for (const each of Object.values(this.past)) each.dispose(); }
}

async function answer({ messages, adapter, most, search }) {
  const said = messages.at(-1).content, control = page.control.find((token) => said.includes(token));
  if (control) throw new Error(`The question has ${control}, a control token of the model. Take it out.`);
  const prompt = encode(messages);
  const room = page.context - prompt.length;
  if (room < 1) throw new Error(`The conversation has ${prompt.length} tokens, the model's context ${page.context}: begin again.`);
  const lora = await loraInputs(adapter), choose = chooser(search), cache = new Cache();
  const tokens = [], begun = performance.now();
  let first = 0, text = "", ended = "length", location = "";
  const rate = () => (tokens.length > 1 ? ((tokens.length - 1) * 1000) / (performance.now() - begun - first) : 0);
  const stops = async () => { await pause(); return stopped; }; // a "stop" is read here
  stopped = false;
  try {
    let ids = prompt;
    while (tokens.length < Math.min(most, room)) {
      while (ids.length > computer.piece) {
        await cache.step(ids.slice(0, computer.piece), lora);
        ids = ids.slice(computer.piece);
        tell("reading", { read: cache.length, prompt: prompt.length });
        if (await stops()) break;
      }
      if (stopped) { ended = "stop"; break; }
      const token = choose(await cache.step(ids, lora), [...prompt, ...tokens]);
      tokens.push(token);
      if (tokens.length === 1) first = performance.now() - begun;
      if (page.end.includes(token)) { ended = "end"; break; }
      ids = [token];
      const decoded = tokenizer.decode(tokens, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
      if (!decoded.endsWith("\ufffd")) text = decoded; // else a character that the next token completes
      tell("piece", { text, tokens, rate: rate() });
      await stops();
    }
    location = cache.location;
  } finally {
    cache.free();
  }
  tell("done", { text, tokens, rate: rate(), first: first / 1000, ended, location, seed: search.seed });
}

const guarded = (work) => work.catch((error) => tell("wrong", { text: error.message ?? String(error) }));
self.onmessage = ({ data }) => {
  if (data.kind === "stop") stopped = true;
  else guarded(data.kind === "load" ? load(data) : answer(data));
};
