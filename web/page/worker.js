// Does the work, so that the page stays free: owns the WebAssembly, the GPU, the takes and the network.
//
// It is told what to do by messages {do: …} and answers with messages {is: …}, one thing at a time; only `stop` is heard between.

import init, { Processor, Takes, Trained, seed_of, train, version } from "./etude.js";

const ready = init({ module_or_path: new URL("etude_bg.wasm", import.meta.url) });

/** What is open, loaded and trained; each was made by what `of` says. */
const kept = { processor: null, takes: null, network: null };
let stopping = false;

const tell = (is, more = {}, moved = []) => postMessage({ is, ...more }, moved);

/** Lets messages in that came meanwhile. */
function turn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

/** `kept[what]` of `of`, made anew where it is of something else. */
async function of(what, of, make) {
  if (kept[what]?.of !== of) {
    kept[what]?.value.free();
    kept[what] = null;
    kept[what] = { of, value: await make() };
  }
  return kept[what].value;
}

function forget(...names) {
  for (const name of names) {
    kept[name]?.value.free();
    kept[name] = null;
  }
}

/** What the browser says of its GPU, which is little. */
async function gpuName() {
  const info = (await navigator.gpu.requestAdapter({ powerPreference: "high-performance" }))?.info;
  return info?.description || [info?.vendor, info?.architecture].filter(Boolean).join(" ");
}

async function open(processor) {
  if (kept.processor?.of !== processor) forget("network"); // its weights are on the other one
  return of("processor", processor, async () => {
    const opened = processor === "gpu" ? await Processor.gpu() : Processor.cpu();
    const called = processor === "gpu" ? await gpuName() : null;
    tell("opened", { processor, called, software: opened.software });
    return opened;
  });
}

async function takes(seed) {
  let next = 0;
  const set = await of("takes", seed, () =>
    Takes.synthetic(seed, (done, all) => {
      if (performance.now() < next && done < all) return;
      next = performance.now() + 50;
      tell("aligning", { done, of: all });
    }),
  );
  tell("set", { seed });
  return set;
}

function keep(network) {
  forget("network");
  kept.network = { of: null, value: network };
  const checkpoint = network.checkpoint() ?? null;
  tell("tested", { report: JSON.parse(network.report()), checkpoint });
}

const tasks = {
  async open({ processor }) {
    await open(processor);
  },

  async train({ processor, seed, settings, checkpoint }) {
    stopping = false;
    const [on, set] = [await open(processor), await takes(seed)];
    const begun = performance.now();
    const network = await train(on, set, JSON.stringify({ seed, ...settings }), checkpoint ?? undefined, async (event) => {
      tell("epoch", { ...JSON.parse(event), seconds: (performance.now() - begun) / 1000 });
      await turn();
      return stopping;
    });
    keep(network);
  },

  async load({ processor, bytes }) {
    const [on, set] = [await open(processor), await takes(seed_of(bytes))];
    keep(await Trained.load(on, set, bytes));
  },

  async model() {
    const bytes = await kept.network.value.model(kept.processor.value);
    tell("model", { bytes }, [bytes.buffer]);
  },
};

// A fault of ours in the middle of something that is awaited: nothing else would tell of it.
addEventListener("unhandledrejection", ({ reason }) => {
  tell("failed", { at: "begin", message: reason?.message ?? String(reason) });
});

let before = ready.then(
  () => tell("ready", { version: version() }),
  (error) => {
    tell("failed", { at: "begin", message: error?.message ?? String(error) });
    return new Promise(() => {}); // there is nothing that could do what it is told
  },
);
onmessage = ({ data }) => {
  if (data.do === "stop") {
    stopping = true;
    return;
  }
  before = before
    .then(() => tasks[data.do](data))
    .catch((error) => {
      // A processor that failed may be gone, and all that is on it with it.
      forget("network", "processor");
      tell("failed", { at: data.do, message: error?.message ?? String(error) });
    })
    .then(() => tell("idle"));
};
