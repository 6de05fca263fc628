// Checks of the Vercel AI SDK with its provider for OpenAI-compatible services.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

import { baseURL, longQuestion as long, model, question, rejection, report } from "./report.mjs";

const maxgate = createOpenAICompatible({
  name: "maxgate",
  baseURL,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const settings = { model: maxgate(model), temperature: 0, maxOutputTokens: 30, maxRetries: 0 };
const plain = { ...settings, ...question };

const summarize = ({ text, finishReason, usage }) => ({
  text,
  finish_reason: finishReason,
  total_tokens: usage.totalTokens,
});

async function catchError(fields) {
  const error = await rejection(generateText({ ...plain, ...fields }));
  const { type, code, param } = error.data.error;
  return { class: error.name, status: error.statusCode, retry: error.isRetryable, type, code, param };
}

await report({
  async generateText() {
    return summarize(await generateText(plain));
  },

  async streamText() {
    const stream = streamText(plain);
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    return summarize({ text, finishReason: await stream.finishReason, usage: await stream.usage });
  },

  unknownModel: () => catchError({ model: maxgate("gpt-4") }),

  invalidTemperature: () => catchError({ temperature: 2.5 }),

  async disconnect() {
    const controller = new AbortController();
    const request = { ...settings, ...long, maxOutputTokens: 500 };
    const stream = streamText({ ...request, abortSignal: controller.signal });
    for await (const piece of stream.textStream) if (piece) controller.abort();
    return { aborted: controller.signal.aborted };
  },

  async streamCutOff() {
    const errors = [];
    const stream = streamText({ ...plain, onError: ({ error }) => errors.push(error) });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    return { text, messages: errors.map((error) => error.message ?? error) };
  },
});
