// aimock as its own command line runs it: a model's name is answered with its text, at no latency.
//
//     node tests/bench/aimock.mjs FOLDER_OF_THE_PACKAGE FILE
//
// FILE: {"chunk_size": 12, "texts": {model: text}}. Prints the port; ends with the standard input.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const { LLMock } = await import(pathToFileURL(`${folder}/dist/index.js`).href);
const { chunk_size: chunkSize, texts } = JSON.parse(readFileSync(file, "utf8"));

const server = new LLMock({ port: 0, latency: 0, chunkSize, logLevel: "silent" });
// The name of a model also answers for longer names, the first rule that does wins.
const models = Object.keys(texts).sort((a, b) => b.length - a.length);
for (const model of models) server.on({ model }, { content: texts[model] });
const url = await server.start();

console.log(new URL(url).port);
process.stdin.resume().on("end", () => process.exit(0));
