// The page: what is typed goes to the worker, what it answers is shown.
import { part, say } from "./talk.js";

const [title, state, talk, form, adapter, most, device, prompt, ask, stop, forget] =
  ["title", "state", "talk", "form", "adapter", "most", "device", "prompt", "ask", "stop", "forget"].map(part);
const settings = ["temperature", "top_k", "top_p", "repetition_penalty"].map(part);
const seed = part("seed");

// A worker from a file would have no content security policy; one from a blob has the page's.
const code = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
const blob = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));

let worker = null;
let messages = []; // what was said: {role, content}
let answer = null; // what is being answered: its paragraphs, its tokens

function busy(yes) {
  ask.disabled = yes;
  adapter.disabled = device.disabled = yes;
  stop.disabled = !yes;
  forget.disabled = yes || messages.length === 0;
}

const told = {
  loading: ({ what }) => { state.textContent = `Loading ${what} …`; },
  ready: ({ name, adapters, search, seconds, device: by, card, threads, why }) => {
    title.textContent = document.title = name;
    if (adapter.length === 1) {
      for (const each of adapters) adapter.append(new Option(each, each));
      for (const each of settings) if (each.id in search) each.value = search[each.id];
    }
    device.value = by;
    device.options[0].disabled = !card;
    const on = by === "webgpu" ? `WebGPU (${card})` : `WebAssembly, ${threads} thread${threads === 1 ? "" : "s"}`;
    state.textContent = `Ready, loaded in ${seconds.toFixed(1)} s; runs in this browser alone, by ${on}.`;
    if (why) say("note", why, "WebAssembly computes");
    busy(false);
  },
  reading: ({ read, prompt: all }) => { state.textContent = `Reading, ${read} of ${all} tokens`; },
  piece: ({ text, tokens, rate }) => {
    answer.words.textContent = text;
    answer.item.dataset.tokens = JSON.stringify(tokens);
    state.textContent = `Answering, ${rate.toFixed(1)} tokens a second`;
  },
  done: ({ text, tokens, rate, first, ended, location, seed: by }) => {
    answer.words.textContent = text;
    answer.item.dataset.tokens = JSON.stringify(tokens);
    Object.assign(answer.item.dataset, { ended, cache: location, rate });
    if (Number(settings[0].value)) answer.small.textContent += `, seed ${by}`;
    state.textContent = `${tokens.length} tokens, ${rate.toFixed(1)} a second after the first, which took ${first.toFixed(2)} s.`;
    // an answer without words cannot be part of a conversation
    if (text.trim()) messages.push({ role: "assistant", content: text }); else messages.pop();
    answer = null;
    busy(false);
  },
  wrong: ({ text }) => {
    answer?.item.remove();
    if (answer) messages.pop();
    say("wrong", text, "error");
    state.textContent = answer ? "Not answered." : "Stopped.";
    if (answer) busy(false);
    else device.disabled = false; // another may do
    answer = null;
  },
};

/** Loads the model anew, to be computed by "webgpu", "wasm", or what is best here. */
function load(wanted) {
  worker?.terminate();
  busy(true);
  stop.disabled = true;
  worker = new Worker(blob, { type: "module" });
  worker.onmessage = ({ data }) => told[data.kind](data);
  worker.onerror = (event) => told.wrong({ text: `The worker failed: ${event.message ?? "a file of the page did not load"}` });
  worker.postMessage({ kind: "load", wanted });
}
load("auto");
device.addEventListener("change", () => load(device.value));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (ask.disabled || !prompt.value.trim()) return;
  messages.push({ role: "user", content: prompt.value });
  say("user", prompt.value);
  answer = say("assistant", "", adapter.value || "no adapter");
  const search = Object.fromEntries(settings.map((each) => [each.id, Number(each.value)]));
  search.seed = seed.value === "" ? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 : Number(seed.value);
  worker.postMessage({ kind: "ask", messages, adapter: adapter.value || null, most: Number(most.value), search });
  prompt.value = "";
  busy(true);
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
});
form.addEventListener("invalid", ({ target }) => { target.closest("details")?.setAttribute("open", ""); }, true);
stop.addEventListener("click", () => worker.postMessage({ kind: "stop" }));
forget.addEventListener("click", () => { messages = []; talk.replaceChildren(); busy(false); });
