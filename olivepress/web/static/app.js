// The page: what is typed goes to the worker, what it answers is shown. All text is set as text, none as HTML.
const part = (id) => document.getElementById(id);
const [title, state, talk, form, adapter, most, prompt, ask, stop, forget] =
  ["title", "state", "talk", "form", "adapter", "most", "prompt", "ask", "stop", "forget"].map(part);

// A worker from a file would have no content security policy; one from a blob has the page's.
const start = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
const blob = URL.createObjectURL(new Blob([start], { type: "text/javascript" }));
const worker = new Worker(blob, { type: "module" });

let messages = []; // what was said: {role, content}
let answer = null; // what is being answered: its paragraphs, its tokens

function say(kind, text, note = "") {
  const item = document.createElement("li");
  const words = document.createElement("p"), small = document.createElement("small");
  item.className = kind;
  words.textContent = text;
  small.textContent = note;
  item.append(small, words);
  talk.append(item);
  item.scrollIntoView({ block: "nearest" });
  return { item, words, small };
}

function busy(yes) {
  ask.disabled = yes;
  adapter.disabled = yes;
  stop.disabled = !yes;
  forget.disabled = yes || messages.length === 0;
}

const told = {
  loading: ({ what }) => { state.textContent = `Loading ${what} …`; },
  ready: ({ name, adapters, seconds, threads }) => {
    title.textContent = document.title = name;
    for (const each of adapters) adapter.append(new Option(each, each));
    state.textContent = `Ready, loaded in ${seconds.toFixed(1)} s; runs in this browser alone, ${threads} thread${threads === 1 ? "" : "s"}.`;
    busy(false);
  },
  piece: ({ text, tokens, rate }) => {
    answer.words.textContent = text;
    answer.item.dataset.tokens = JSON.stringify(tokens);
    state.textContent = `Answering, ${rate.toFixed(1)} tokens a second`;
  },
  done: ({ text, tokens, rate, first, ended }) => {
    answer.words.textContent = text;
    answer.item.dataset.tokens = JSON.stringify(tokens);
    answer.item.dataset.ended = ended;
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
    answer = null;
  },
};
worker.onmessage = ({ data }) => told[data.kind](data);
worker.onerror = (event) => told.wrong({ text: `The worker failed: ${event.message ?? "a file of the page did not load"}` });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (ask.disabled || !prompt.value.trim()) return;
  messages.push({ role: "user", content: prompt.value });
  say("user", prompt.value);
  answer = say("assistant", "", adapter.value || "no adapter");
  worker.postMessage({ kind: "ask", messages, adapter: adapter.value || null, most: Number(most.value) });
  prompt.value = "";
  busy(true);
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); form.requestSubmit(); }
});
stop.addEventListener("click", () => worker.postMessage({ kind: "stop" }));
forget.addEventListener("click", () => { messages = []; talk.replaceChildren(); busy(false); });
