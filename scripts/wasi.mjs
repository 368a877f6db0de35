// Runs a program for WASI with the rest of the arguments: what `scripts/other-processors` hands to cargo as its runner.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
const home = process.cwd();
const wasi = new WASI({ version: "preview1", args: [file, ...args], env: process.env, preopens: { [home]: home } });
const { instance } = await WebAssembly.instantiate(await readFile(file), wasi.getImportObject());
process.exit(wasi.start(instance));
