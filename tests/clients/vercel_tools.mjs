// Tools and structured output with the Vercel AI SDK.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, isStepCount, streamText, tool } from "ai";

import { baseURL, model, question as capitalQuestion, report } from "./report.mjs";
import { capital, description, name, parameters, question, weather } from "./weather.mjs";

const maxgate = createOpenAICompatible({
  name: "maxgate",
  baseURL,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const settings = { model: maxgate(model), temperature: 0, maxOutputTokens: 60, maxRetries: 0 };
const capitalRequest = {
  ...settings,
  ...capitalQuestion,
  output: Output.object({ schema: capital, name: "capital" }),
};

/** Two steps: the first must call the tool, the second must not. */
function weatherRequest() {
  const { received, lookUp } = weather();
  const getWeather = tool({ description, inputSchema: parameters, execute: lookUp });
  const toolChoice = { type: "tool", toolName: name };
  const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? toolChoice : "none" });
  const stopWhen = isStepCount(2);
  return [
    { ...settings, ...question, tools: { [name]: getWeather }, prepareStep, stopWhen },
    received,
  ];
}

const roundTrip = ([first, second, ...more], received) => ({
  finish_reason: first.finishReason,
  content: first.text,
  calls: first.toolCalls.map(({ toolCallId, toolName }) => [toolCallId.slice(0, 5), toolName]),
  received,
  hasFinalMessage: second.text !== "" && second.toolCalls.length === 0,
  more,
});

await report({
  async tool() {
    const [request, received] = weatherRequest();
    return roundTrip((await generateText(request)).steps, received);
  },

  async toolStreamed() {
    const [request, received] = weatherRequest();
    const stream = streamText(request);
    await stream.consumeStream();
    return roundTrip(await stream.steps, received);
  },

  async object() {
    const { output, finishReason } = await generateText(capitalRequest);
    return { finish_reason: finishReason, fields: Object.keys(output), city: output.city };
  },

  async objectStreamed() {
    const stream = streamText(capitalRequest);
    await stream.consumeStream();
    const [output, finishReason] = [await stream.output, await stream.finishReason];
    return { finish_reason: finishReason, fields: Object.keys(output), city: output.city };
  },
});
