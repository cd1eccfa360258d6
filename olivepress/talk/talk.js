// What the pages to chat on share. All text is set as text, none as HTML.
export const part = (id) => document.getElementById(id);

/** Adds a turn to the conversation: its item in the list, the paragraph of its words, the small print above. */
export function say(kind, text, note = "") {
  const item = document.createElement("li");
  const words = document.createElement("p"), small = document.createElement("small");
  item.className = kind;
  words.textContent = text;
  small.textContent = note;
  item.append(small, words);
  part("talk").append(item);
  item.scrollIntoView({ block: "nearest" });
  return { item, words, small };
}
