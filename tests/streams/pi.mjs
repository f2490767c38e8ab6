// pi's own proxy client: node pi.mjs FOLDER URL TOKEN ABORT. Prints a JSON line: the types of all events, and the result.
import { pathToFileURL } from "node:url";

const [folder, proxyUrl, authToken, abort] = process.argv.slice(2);
const core = pathToFileURL(`${folder}/node_modules/@mariozechner/pi-agent-core/dist/index.js`);
const { streamProxy } = await import(core);

const model = {
  id: "claude-x", name: "X", api: "anthropic-messages", provider: "anthropic", baseUrl: "https://x.example",
  reasoning: true, input: ["text"], cost: { input: 3, output: 15, cacheRead: 0, cacheWrite: 0 },
  contextWindow: 200000, maxTokens: 64000,
};
const context = {
  systemPrompt: "Be brief.",
  messages: [{ role: "user", content: "What time is it?", timestamp: 1 }],
  tools: [{ name: "clock", label: "Clock", description: "Time", parameters: { type: "object" } }],
};
const controller = new AbortController();
const options = {
  authToken, proxyUrl, signal: controller.signal, maxTokens: 512, reasoning: "low",
  cacheRetention: "short", sessionId: "s-1", maxRetryDelayMs: 1000,
};

const stream = streamProxy(model, context, options);
const types = [];
for await (const event of stream) {
  types.push(event.type);
  if (abort === "abort") controller.abort();
}
console.log(JSON.stringify({ types, message: await stream.result() }));
