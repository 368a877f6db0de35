/* What scripts/page-check and scripts/web-check share: Chromium, and what is wrong with a page whatever it shows.

Chromium is Debian's, which is installed where it is missing; puppeteer-core, which steers it, comes from npm into
target/page-check. */
"use strict";
const { execFileSync, spawnSync } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");

const ROOT = path.dirname(__dirname);
const HOME = path.join(ROOT, "target", "page-check");
const PUPPETEER = "24.8.2";
const WIDTHS = [390, 1400];
const SCHEMES = ["light", "dark"];

function install() {
  const manifest = path.join(HOME, "node_modules", "puppeteer-core", "package.json");
  if (fs.existsSync(manifest) && JSON.parse(fs.readFileSync(manifest)).version === PUPPETEER) return;
  fs.mkdirSync(HOME, { recursive: true });
  const command = ["install", "--prefix", HOME, "--no-audit", "--no-fund", "--ignore-scripts", `puppeteer-core@${PUPPETEER}`];
  execFileSync("npm", command, { stdio: ["ignore", "ignore", "inherit"] });
}

/** Where Chromium is; installs it as scripts/test does what it needs. */
function chromium() {
  const find = () => {
    const names = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    return names.find((name) => name && fs.existsSync(name));
  };
  if (!find()) {
    const root = process.getuid() === 0 ? [] : ["sudo", "-n"];
    const run = (...words) => {
      const [program, ...rest] = [...root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", ...words];
      spawnSync(program, rest, { stdio: ["ignore", "ignore", "inherit"] });
    };
    run("update");
    run("install", "-y", "--no-install-recommends", "chromium");
  }
  const found = find();
  if (!found) throw new Error("no Chromium: install Debian's package chromium, or name one in CHROMIUM");
  return found;
}

/** A browser with these flags beside those that any needs here. */
async function launch(...flags) {
  install();
  const puppeteer = await import(pathToFileURL(require.resolve("puppeteer-core", { paths: [HOME] })).href);
  return puppeteer.launch({ executablePath: chromium(), args: ["--headless=new", "--no-sandbox", ...flags] });
}

/** Runs the binary that ETUDE names, or builds it; its exit code has to be the one expected. Gives what it printed. */
function etude(args, code = 0) {
  const cargo = ["cargo", "run", "-q", "--no-default-features", "--features", "cli", "--"];
  const [program, ...rest] = [...(process.env.ETUDE ? [path.resolve(process.env.ETUDE)] : cargo), ...args];
  const { status, stdout, stderr } = spawnSync(program, rest, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" });
  if (status !== code) throw new Error(`etude ${args[0]} ended with ${status}: ${stderr}`);
  return stdout;
}

/** What is wrong with the page; runs in it. */
function faults() {
  const found = [];
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) found.push(`is ${scrollWidth} px wide in a window of ${clientWidth}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) found.push(`id ${id} is there twice`);
  for (const e of document.querySelectorAll("[aria-labelledby], a[href^='#']")) {
    const id = e.getAttribute("aria-labelledby") ?? e.getAttribute("href").slice(1);
    if (!document.getElementById(id)) found.push(`nothing has the id ${id}, which is referred to`);
  }
  for (const e of document.querySelectorAll("figure")) {
    const pictures = [...e.querySelectorAll("svg, img")];
    if (pictures.length === 0) found.push(`figure ${e.id} has no picture`);
    if (!e.querySelector("figcaption")?.textContent.trim()) found.push(`figure ${e.id} has no caption`);
    for (const picture of pictures) {
      const box = picture.getBoundingClientRect();
      if (!(box.width > 50 && box.height > 20)) found.push(`figure ${e.id} is not to be seen`);
      const drawn = picture.tagName !== "svg" || picture.querySelectorAll("circle, path, polyline, polygon, text").length > 2;
      if (!drawn) found.push(`figure ${e.id} is empty`);
      // What a drawing has outside of its own frame is cut off.
      for (const mark of picture.querySelectorAll("text")) {
        if (!mark.textContent.trim()) continue;
        const at = mark.getBoundingClientRect();
        const out = at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
        if (out) found.push(`figure ${e.id}: "${mark.textContent.trim()}" is cut off`);
      }
    }
  }
  for (const e of document.querySelectorAll("svg")) {
    if (e.getAttribute("role") !== "img" || !(e.getAttribute("aria-label") || e.querySelector(":scope > title"))) {
      found.push("an svg has no name");
    }
  }
  for (const e of document.querySelectorAll("img:not([alt])")) found.push(`an image has no alt: ${e.outerHTML.slice(0, 60)}`);
  if (document.querySelectorAll("h1").length !== 1) found.push("has not one h1");
  if (!document.documentElement.lang) found.push("does not say its language");
  if (document.querySelectorAll("main").length !== 1) found.push("has not one main");
  for (const e of document.querySelectorAll("*")) {
    const { overflowX } = getComputedStyle(e);
    const scrolls = ["auto", "scroll"].includes(overflowX) && e.scrollWidth > e.clientWidth;
    if (scrolls && e.tabIndex < 0) found.push(`${e.tagName} scrolls, and a keyboard does not reach it`);
  }
  // Contrast as in WCAG 2.2: 4.5 for text, 3 where it is large.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const behind = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const pale = new Set();
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgb(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (large ? 3 : 4.5))
      pale.add(`${e.tagName} "${e.textContent.trim().slice(0, 30)}" has a contrast of ${contrast.toFixed(2)}`);
  }
  return [...found, ...[...pale].slice(0, 5)];
}

module.exports = { ROOT, HOME, WIDTHS, SCHEMES, launch, etude, faults };
