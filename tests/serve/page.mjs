// Uses the page of `olivepress serve` in a headless Chromium and prints what it saw as JSON. Reads from standard input:
//   {modules, chromium, url, elsewhere, key, asks: [{model, prompts, most, stop}]}
// Each begins a conversation; its prompts follow each other in it. stop: break the answer off after so many characters.
// elsewhere: an address that the page's policy has to refuse.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const task = JSON.parse(fs.readFileSync(0, "utf8"));
const require = createRequire(path.join(task.modules, "x.js"));
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// as root, which containers are, Chromium has no sandbox; the page is our own
const browser = await puppeteer.launch({ executablePath: task.chromium, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
const said = [];
page.on("console", (message) => said.push(message.text()));
page.on("pageerror", (error) => said.push(String(error)));
const asked = new Set();
page.on("request", (request) => asked.add(request.url()));
const answer = await page.goto(task.url);
const seen = { headers: answer.headers(), answers: [] };
const ready = () => page.waitForFunction(() => !document.querySelector("#ask").disabled, { timeout: 120_000 });
if (task.key) {
  await page.waitForSelector("#key-form:not([hidden])");
  seen.locked = await page.$eval("#state", (state) => state.textContent);
  await page.type("#key", task.key);
  await page.click("#key-form button");
}
await ready();
seen.models = await page.$$eval("#model option", (all) => all.map((each) => each.value));
for (const { model, prompts, most, stop } of task.asks) {
  if (await page.$eval("#forget", (button) => !button.disabled)) await page.click("#forget");
  await page.select("#model", model);
  await page.$eval("#most", (input, value) => { input.value = value; }, most);
  for (const prompt of prompts) {
    await page.type("#prompt", prompt);
    // how the answer grows, piece by piece
    await page.evaluate((stop) => {
      window.grown = [];
      new MutationObserver(() => {
        const text = document.querySelector("#talk li.assistant:last-child p")?.textContent ?? "";
        if (text !== window.grown.at(-1)) window.grown.push(text);
        if (stop && text.length >= stop) document.querySelector("#stop").click();
      }).observe(document.querySelector("#talk"), { childList: true, subtree: true, characterData: true });
    }, stop);
    await page.click("#ask");
    await ready();
  }
  const shown = await page.$$eval("#talk li:not(.user)", (all) => all.map((each) => ({
    text: each.querySelector("p").textContent, wrong: each.className === "wrong", ...each.dataset,
  })));
  const state = await page.$eval("#state", (state) => state.textContent);
  seen.answers.push({ shown, state, pieces: await page.evaluate(() => window.grown.length) });
}
seen.asked = [...asked];
seen.unasked = said.splice(0); // what the page said before it is provoked
seen.refused = await page.evaluate(async (elsewhere) => {
  const script = document.createElement("script");
  script.textContent = "window.injected = true";
  document.head.append(script);
  const fetched = await fetch(elsewhere).then(() => "let through", (error) => error.name);
  return { fetched, injected: window.injected ?? "not run" };
}, task.elsewhere);
await page.evaluate(axe);
const found = await page.evaluate(() => axe.run());
seen.violations = found.violations.map(({ id, help, nodes }) => ({ id, help, at: nodes.map((node) => node.html.slice(0, 200)) }));
await page.setViewport({ width: 360, height: 700 });
seen.sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
await browser.close();
console.log(JSON.stringify(seen));
