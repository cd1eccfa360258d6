// Opens a page in a headless Chromium and prints what it saw as JSON. Reads from standard input, as JSON:
//   {modules, chromium, page, folder, views: [{name, width, scheme, media}]}
// modules: the node_modules with puppeteer-core and axe-core; folder: where screenshots go, one a view and section, if given.
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
  args: ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
});
const seen = {};
for (const view of task.views) {
  const page = await browser.newPage();
  const asked = [], said = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("dialog", (dialog) => { said.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.setViewport({ width: view.width, height: 900, deviceScaleFactor: view.scale ?? 1 });
  const session = await page.createCDPSession();
  const features = [{ name: "prefers-color-scheme", value: view.scheme ?? "light" }];
  await session.send("Emulation.setEmulatedMedia", { media: view.media ?? "screen", features });
  await page.goto(pathToFileURL(task.page).href);
  if (view.open) await page.$$eval("details", (all) => all.forEach((each) => (each.open = true)));
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run());
  // Tab goes through every link and region that scrolls, in the order of the page
  const focused = [];
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const { activeElement: it } = document;
      const top = it.getBoundingClientRect().top + scrollY;
      return it === document.body ? null : { name: it.getAttribute("aria-label") ?? it.textContent, top };
    });
    if (at === null) break;
    focused.push(at);
  }
  seen[view.name] = {
    asked,
    said,
    focused,
    violations: found.violations.map(({ id, help, nodes }) => ({ id, help, at: nodes.map((node) => node.html.slice(0, 200)) })),
    passes: found.passes.map(({ id }) => id),
    text: await page.evaluate(() => document.body.innerText),
    ...(await page.evaluate(() => ({
      title: document.title,
      first: document.querySelector("h1").innerText,
      sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      background: getComputedStyle(document.body).backgroundColor,
      alternatives: [...document.querySelectorAll(".plot")].map((plot) => plot.getAttribute("aria-label")),
      plots: [...document.querySelectorAll(".plot svg")].map((svg) => svg.getBoundingClientRect().width),
    }))),
  };
  if (task.folder) {
    await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
    for (const part of await page.$$("header, section")) {
      const name = (await part.evaluate((element) => element.id)) || "header";
      await part.screenshot({ path: path.join(task.folder, `${view.name}-${name}.png`) });
    }
  }
  await page.close();
}
await browser.close();
console.log(JSON.stringify(seen));
