// The page of the server itself: it asks /v1, as any client does. A key stays in this page's memory, and is gone with it.
import { part, say } from "./talk.js";

const [state, talk, keyForm, key, form, model, most, prompt, ask, stop, forget] =
  ["state", "talk", "key-form", "key", "form", "model", "most", "prompt", "ask", "stop", "forget"].map(part);

let messages = []; // what was said: {role, content}
let asked = null; // what breaks off the answer that is on its way

function busy(yes) {
  ask.disabled = yes;
  model.disabled = yes;
  stop.disabled = !yes;
  forget.disabled = yes || talk.childElementCount === 0;
}

/** A response that is none of an error; what the server said of it is thrown otherwise. */
async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key.value && { Authorization: `Bearer ${key.value}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  keyForm.hidden = response.status !== 401; // after the last wait: the form and the reason for it appear together
  throw new Error(said?.error?.message ?? `${response.status} ${response.statusText}`);
}

async function load() {
  try {
    const { data } = await (await call("v1/models")).json();
    keyForm.hidden = true;
    const chosen = model.value;
    model.replaceChildren(...data.map(({ id }) => new Option(id, id)));
    if (data.some(({ id }) => id === chosen)) model.value = chosen;
    document.title = document.querySelector("h1").textContent = data[0].id;
    state.textContent = `Ready: ${data.length} model${data.length === 1 ? "" : "s"}.`;
    busy(false);
  } catch (error) {
    state.textContent = keyForm.hidden ? `Not ready: ${error.message}` : "Not ready: a key is missing, or it is unknown here.";
  }
}

/** What server-sent events carry, until [DONE]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The server broke off.");
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines) {
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

async function answer() {
  const shown = say("assistant", "", model.value);
  const begun = performance.now();
  let text = "", first = 0, ended = "stopped", tokens = 0;
  asked = new AbortController();
  try {
    const response = await call("v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        model: model.value, messages, max_tokens: Number(most.value), stream: true, stream_options: { include_usage: true },
      }),
      signal: asked.signal,
    });
    for await (const event of events(response)) {
      asked.signal.throwIfAborted();
      if (event.error) throw new Error(event.error.message);
      if (event.usage) tokens = event.usage.completion_tokens;
      for (const { delta, finish_reason } of event.choices) {
        if (delta.content) {
          first ||= performance.now() - begun;
          shown.words.textContent = text += delta.content;
        }
        ended = finish_reason ?? ended;
      }
      state.textContent = "Answering …";
    }
    // no rate: what comes at once is no speed of the model's
    const seconds = (time) => (time / 1000).toFixed(2);
    const since = tokens > 1 ? `, the first words after ${seconds(first)} s` : "";
    state.textContent = `${tokens} token${tokens === 1 ? "" : "s"} in ${seconds(performance.now() - begun)} s${since}.`;
  } catch (error) {
    if (!asked.signal.aborted) {
      shown.item.remove();
      messages.pop();
      say("wrong", error.message, "error");
      state.textContent = "Not answered.";
      return;
    }
    state.textContent = "Stopped.";
  } finally {
    asked = null;
  }
  shown.item.dataset.ended = ended;
  shown.item.dataset.tokens = tokens;
  // an answer without words cannot be part of a conversation
  if (text.trim()) messages.push({ role: "assistant", content: text }); else messages.pop();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (ask.disabled || !prompt.value.trim()) return;
  messages.push({ role: "user", content: prompt.value });
  say("user", prompt.value);
  prompt.value = "";
  busy(true);
  await answer();
  busy(false);
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
});
keyForm.addEventListener("submit", (event) => { event.preventDefault(); load(); });
model.addEventListener("focus", () => { if (!asked) load(); }); // adapters come and go
stop.addEventListener("click", () => asked?.abort());
forget.addEventListener("click", () => { messages = []; talk.replaceChildren(); busy(false); });
load();
