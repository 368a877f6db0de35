// The page: asks the worker, and shows what it answers.

import { curves, points, range } from "./charts.js";
import { Plane } from "./plane.js";

const $ = (id) => document.getElementById(id);
const form = $("form");
const drawing = (id) => $(id).querySelector("svg");

/** What is shown. */
const now = {
  /** Whether the program is loaded. */
  ready: false,
  /** Whether somebody chose what to compute on. */
  chosen: false,
  /** Of the run: what the page was told of each epoch. */
  epochs: [],
  held: null,
  report: null,
  /** What the run was begun with, to go on with the same. */
  run: null,
  checkpoint: null,
  /** The epoch that the checkpoint is of. */
  stopped: 0,
  plane: new Plane(),
  /** When words were last read out. */
  spoken: 0,
};

let worker;
begin();

function begin() {
  worker?.terminate();
  [now.ready, now.report] = [false, null]; // the network went with the worker
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => answers[data.is](data);
  worker.onerror = (event) => {
    event.preventDefault();
    ended(event.message ?? "it could not be loaded");
  };
  ask({ do: "open", processor: "gpu" }, "Looking for a GPU…");
}

function ask(message, words, moved = []) {
  busy(true);
  if (words) say(words);
  worker.postMessage(message, moved);
}

const processor = () => form.elements.processor.value;
const number = (value, digits = 3) => (value === null || value === undefined ? "undefined" : value.toFixed(digits));

/** Shows words; what changes many times a second is read out every few seconds. */
function say(words, share) {
  $("said").textContent = words;
  if (!(share > 0 && share < 1) || performance.now() > now.spoken + 5000) {
    $("spoken").textContent = words;
    now.spoken = performance.now();
  }
  if (share === undefined) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function fault(words) {
  $("fault").textContent = words;
  $("fault").hidden = !words;
}

function busy(is) {
  for (const id of ["train", "load"]) $(id).disabled = is;
  $("resume").disabled = is;
  $("download").disabled = is || !now.report;
  $("stop").disabled = !is;
  $("resume").hidden = !now.checkpoint;
}

const answers = {
  ready({ version }) {
    now.ready = true;
    $("version").textContent = `Etude ${version}`;
  },

  opened({ processor, called, software }) {
    if (processor !== "gpu") return;
    const choice = form.querySelector('[value="gpu"]');
    choice.disabled = false;
    // What stands in for a GPU is slower than the processor itself.
    if (!now.chosen) form.elements.processor.value = software ? "cpu" : "gpu";
    const program = `a program that stands in for one${called && ` (${called})`}`;
    $("about-gpu").textContent = software
      ? `This browser has no GPU for WebGPU, but ${program}: the processor itself is faster.`
      : `WebGPU computes on ${called || "a GPU that the browser does not name"}.`;
  },

  aligning({ done, of }) {
    say(`Comparing takes with their melodies: ${done} of ${of}`, done / of);
  },

  set({ seed }) {
    form.elements.seed.value = seed;
    say("Preparing the network…");
  },

  epoch(told) {
    now.epochs.push(told);
    now.held = told.held_out;
    const done = told.epoch - now.run.from;
    const rate = told.seconds > 0 ? done / told.seconds : 0;
    const left = rate > 0 ? `, ${Math.ceil((told.of - told.epoch) / rate)} s left` : "";
    const speed = `${rate.toPrecision(2)} epochs a second${left}`;
    const place = `Epoch ${told.epoch} of ${told.of}, ${told.phase}`;
    say(`${place}: loss ${number(told.train_loss, 4)}, ${speed}`, told.epoch / told.of);
    draw();
  },

  tested({ report, checkpoint }) {
    now.report = report;
    now.held = report.held_out;
    [now.checkpoint, now.stopped] = [checkpoint, report.epochs];
    const end = report.stopped ? `Stopped after epoch ${report.epochs}` : "Done";
    say(`${end}: R² ${number(report.test.r2)} on ${report.test.n} held-out takes.`, 1);
    draw();
    table();
  },

  model({ bytes }) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    link.download = "model.safetensors";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(
      "The model is with your downloads. The command etude eval --model model.safetensors tests it, and this page loads it.",
      1,
    );
  },

  failed({ at, message }) {
    if (at === "open") {
      form.querySelector('[value="gpu"]').disabled = true;
      form.elements.processor.value = "cpu";
      $("about-gpu").textContent = withoutGpu();
      return;
    }
    if (at === "begin") {
      ended(message);
      return;
    }
    now.report = null;
    fault(/was lost/.test(message) ? lost(message) : `It failed: ${message}`);
    say("Nothing is running.", 0);
  },

  idle() {
    busy(false);
    if ($("progress").hasAttribute("value")) return;
    say("Ready.", 0);
  },
};

/** Why the processor computes, and what to do about it. */
function withoutGpu() {
  if (navigator.gpu) {
    return (
      "WebGPU finds no GPU here, so the processor computes. Where there is one, update its driver and the browser, " +
      "and look whether WebGPU is switched off in the browser's settings."
    );
  }
  const where = isSecureContext ? "" : " for pages that are not served by https or from this machine";
  return (
    `This browser has no WebGPU${where}, so the processor computes. ` +
    "Current versions of Chrome, Edge, Firefox and Safari have it on most systems."
  );
}

/** What a fault of ours leaves cannot be trusted: begins anew, unless it was in the beginning. */
function ended(message) {
  const again = now.ready ? "It was begun anew" : "Reload the page";
  if (now.ready) begin();
  fault(`The program ended: ${message}. ${again}; if that does not help, use a newer browser.`);
  say("Nothing is running.", 0);
}

function lost(message) {
  return (
    "The GPU was lost: another program or the driver took it, or it was too long at one task. " +
    `Train anew, or on the processor. (${message})`
  );
}

/** One drawing a frame at most. */
let due = false;
function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    $("results").hidden = false;
    drawCurves();
    if (now.held) drawTakes();
  });
}

function drawCurves() {
  for (const id of ["loss", "held-out"]) $(id).hidden = now.epochs.length === 0;
  if (now.epochs.length === 0) return;
  const { of, epoch, phase, train_loss } = now.epochs.at(-1);
  const losses = now.epochs.map((e) => [e.epoch, e.train_loss]);
  curves(drawing("loss"), { epochs: of, lines: [{ points: losses, style: "" }], yLabel: "training loss", low: 0 });
  drawing("loss").setAttribute("aria-label", `Training loss after epoch ${epoch}, ${phase}: ${number(train_loss, 4)}`);
  const r2 = now.epochs.filter((e) => e.held_out.r2 !== null).map((e) => [e.epoch, Math.max(-0.5, e.held_out.r2)]);
  curves(drawing("held-out"), { epochs: of, lines: [{ points: r2, style: "second" }], yLabel: "R², held-out takes", low: 0 });
  drawing("held-out").setAttribute("aria-label", `R² of the held-out takes: ${number(r2.at(-1)?.[1])} after epoch ${epoch}`);
}

function drawTakes() {
  const { ratings, predictions, embedding, r2 } = now.held;
  const [xs, ys] = now.plane.of(embedding, predictions.length);
  const place = { x: range(xs), y: range(ys), xTicks: [], yTicks: [], xLabel: "first direction", yLabel: "second direction" };
  points(drawing("embedding"), { xs, ys, ratings, ...place });
  drawing("embedding").setAttribute("aria-label", `Embedding of ${ratings.length} held-out takes, coloured by grade`);
  const y = range(predictions, [0, 1]);
  points(drawing("grades"), {
    xs: ratings,
    ys: predictions,
    ratings,
    x: [0, 1],
    y,
    xLabel: "the judge's grade",
    yLabel: "the network's",
    diagonal: true,
  });
  drawing("grades").setAttribute(
    "aria-label",
    `Predicted grades of ${ratings.length} held-out takes against the judge's: R² ${number(r2)}`,
  );
}

function table() {
  const { test, epochs, parameters, protocol, traffic } = now.report;
  const rows = [
    ["R²", number(test.r2), "share of the grades' variance that is told"],
    ["Pearson r", number(test.pearson), "linear correlation with the judge"],
    ["MAE", number(test.mae), "mean error of a grade from 0 to 1"],
    ["AUC", number(test.auc), "passed takes told from failed ones; 0.5 is chance"],
    ["takes", test.n, "held out, by performers it never heard"],
    ["epochs", epochs, protocol],
    ["parameters", parameters, "numbers that were learned"],
  ];
  if (traffic) {
    rows.push([
      "submissions a step",
      number(traffic.submissions / traffic.steps, 0),
      `${Math.round(traffic.dispatches / traffic.steps)} kernels each`,
    ]);
    rows.push(["read-backs in an epoch", traffic.reads, `of ${traffic.steps} steps; its losses are read when it is over`]);
  }
  $("table").hidden = false;
  const body = $("table").tBodies[0];
  body.replaceChildren(
    ...rows.map(([name, value, about]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head, ...[value, about].map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    }),
  );
}

/** Begins a run, or goes on with one; if that fails, it can be gone on with from there again. */
function run(run, checkpoint = null) {
  fault("");
  now.run = run;
  now.report = null;
  now.checkpoint = checkpoint;
  now.epochs = now.epochs.filter((told) => told.epoch <= run.from);
  $("table").hidden = true;
  ask({ do: "train", ...run, checkpoint }, "Preparing the takes…");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const value = (name) => form.elements[name].value;
  const given = (name) => (value(name) === "" ? null : Number(value(name)));
  [now.held, now.plane] = [null, new Plane()];
  const settings = { protocol: value("protocol"), metric: value("metric") };
  for (const name of ["epochs", "margin", "weight", "bins"]) settings[name] = given(name);
  run({ processor: processor(), seed: given("seed"), settings, from: 0 });
});

// What is wrong is to be seen.
form.addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);

form.addEventListener("change", ({ target }) => {
  if (target.name === "processor") now.chosen = true;
});

$("resume").addEventListener("click", () => {
  run({ ...now.run, processor: processor(), from: now.stopped }, now.checkpoint);
});

$("stop").addEventListener("click", () => {
  $("stop").disabled = true;
  worker.postMessage({ do: "stop" });
  // Before the first epoch it hears nothing.
  if (now.epochs.at(-1)?.epoch > now.run?.from) {
    say("Stopping after this epoch…");
    return;
  }
  begin();
  say("Stopped before the first epoch.", 0);
});

$("download").addEventListener("click", () => ask({ do: "model" }));

$("load").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  fault("");
  [now.epochs, now.held, now.plane, now.report, now.checkpoint] = [[], null, new Plane(), null, null];
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    ask({ do: "load", processor: processor(), bytes }, `Loading ${file.name}…`, [bytes.buffer]);
  } catch (error) {
    fault(`${file.name} cannot be read: ${error.message}`);
  }
  target.value = "";
});
