// Talks to a page of `olivepress web` in a headless Chromium and prints what it saw as JSON. Reads from standard input:
//   {modules, chromium, url, elsewhere, questions: [{adapter, prompts, most, search}], flags, device}
// Each question begins a conversation of its own; its prompts follow each other in it. search: what to put into the
// fields for how tokens are chosen, by their ids. elsewhere: an address that the page's policy has to refuse. flags:
// Chromium's, for a GPU or none. device: what to choose on the page to compute by, once it is ready.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const task = JSON.parse(fs.readFileSync(0, "utf8"));
const require = createRequire(path.join(task.modules, "x.js"));
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// as root, which containers are, Chromium has no sandbox; the page is our own
const browser = await puppeteer.launch({
  executablePath: task.chromium,
  args: ["--no-sandbox", ...task.flags],
  protocolTimeout: 600_000,
});
const page = await browser.newPage();
const said = [];
page.on("console", (message) => said.push(message.text()));
page.on("pageerror", (error) => said.push(String(error)));
await page.goto(task.url);
const settled = () => page.waitForFunction(
  () => !document.querySelector("#ask").disabled || document.querySelector("#talk .wrong"), { timeout: 600_000 });
await settled();
const seen = { answers: [], loaded: await page.$eval("#state", (state) => state.textContent) };
seen.choices = await page.$$eval("#device option", (all) => all.filter((each) => !each.disabled).map((each) => each.value));
seen.chosen = await page.$eval("#device", (device) => device.value);
if (task.device) {
  await page.select("#device", task.device);
  await settled();
  seen.changed = await page.$eval("#state", (state) => state.textContent);
}
seen.notes = await page.$$eval("#talk .note p", (all) => all.map((each) => each.textContent));
seen.wrong = await page.$$eval("#talk .wrong p", (all) => all.map((each) => each.textContent));
for (const { adapter, prompts, most, search = {} } of seen.wrong.length ? [] : task.questions) {
  if (await page.$eval("#forget", (button) => !button.disabled)) await page.click("#forget");
  await page.select("#adapter", adapter ?? "");
  await page.$eval("#most", (input, value) => { input.value = value; }, most);
  for (const [id, value] of Object.entries(search)) {
    await page.$eval(`#${id}`, (input, put) => { input.value = put; }, value);
  }
  for (const prompt of prompts) {
    await page.type("#prompt", prompt);
    await page.click("#ask");
    await settled();
  }
  seen.answers.push(await page.$$eval("#talk li:not(.user, .note)", (all) => all.map((each) => ({
    text: each.querySelector("p").textContent,
    wrong: each.className === "wrong",
    tokens: JSON.parse(each.dataset.tokens ?? "[]"),
    ended: each.dataset.ended,
    cache: each.dataset.cache,
    rate: Number(each.dataset.rate),
    note: each.querySelector("small").textContent,
  }))));
  seen.state = await page.$eval("#state", (state) => state.textContent);
}
seen.title = await page.title();
seen.isolated = await page.evaluate(() => crossOriginIsolated);
seen.unasked = said.splice(0); // what the page said before it is provoked
// what the policy refuses the page, and a worker that is started as the page starts its own
seen.refused = await page.evaluate(async (elsewhere) => {
  const tried = (work) => work.then(() => "let through", (error) => error.name);
  const code = `fetch(${JSON.stringify(elsewhere)}).then(() => postMessage("let through"), (error) => postMessage(error.name))`;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const ofWorker = new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data); });
  const script = document.createElement("script");
  script.textContent = "window.injected = true";
  document.head.append(script);
  return { page: await tried(fetch(elsewhere)), worker: await ofWorker, injected: window.injected ?? "not run" };
}, task.elsewhere);
await page.evaluate(axe);
const found = await page.evaluate(() => axe.run());
seen.violations = found.violations.map(({ id, help, nodes }) => ({ id, help, at: nodes.map((node) => node.html.slice(0, 200)) }));
await page.setViewport({ width: 360, height: 700 });
seen.sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
await browser.close();
console.log(JSON.stringify(seen));
