// pi's own agent with a tool: node pi_agent.mjs FOLDER URL TOKEN PROVIDER MODEL. Prints its transcript as a JSON line.
import { pathToFileURL } from "node:url";

const [folder, proxyUrl, authToken, provider, id] = process.argv.slice(2);
const of = (name) => import(pathToFileURL(`${folder}/node_modules/@mariozechner/${name}/dist/index.js`));
const [{ Agent, streamProxy }, { getModel }] = [await of("pi-agent-core"), await of("pi-ai")];

const clock = {
  name: "clock", label: "Clock", description: "The time",
  parameters: { type: "object", properties: { zone: { type: "string" } }, required: ["zone"] },
  execute: async (_, { zone }) => ({ content: [{ type: "text", text: `noon in ${zone}` }], details: {} }),
};
const agent = new Agent({
  initialState: { systemPrompt: "Be brief.", model: getModel(provider, id), thinkingLevel: "low", tools: [clock] },
  streamFn: (model, context, options) => streamProxy(model, context, { ...options, authToken, proxyUrl }),
});
await agent.prompt("What time is it?");
console.log(JSON.stringify(agent.state.messages));
