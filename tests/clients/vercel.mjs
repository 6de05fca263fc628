// The Vercel AI SDK with its provider for OpenAI-compatible services.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

import { baseURL, failure, longQuestion as long, model, question, report } from "./report.mjs";

const maxgate = createOpenAICompatible({
  name: "maxgate",
  baseURL,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const settings = { model: maxgate(model), temperature: 0, maxOutputTokens: 30, maxRetries: 0 };
const plain = { ...settings, ...question };

const answered = ({ text, finishReason, usage }) => ({
  text,
  finish_reason: finishReason,
  total_tokens: usage.totalTokens,
});

async function errorOf(fields) {
  const error = await failure(generateText({ ...plain, ...fields }));
  const { type, code, param } = error.data.error;
  return { class: error.name, status: error.statusCode, retry: error.isRetryable, type, code, param };
}

await report({
  async generateText() {
    return answered(await generateText(plain));
  },

  async streamText() {
    const stream = streamText(plain);
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    return answered({ text, finishReason: await stream.finishReason, usage: await stream.usage });
  },

  unknownModel: () => errorOf({ model: maxgate("gpt-4") }),

  invalidTemperature: () => errorOf({ temperature: 2.5 }),

  async leaves() {
    const leaving = new AbortController();
    const asked = { ...settings, ...long, maxOutputTokens: 500 };
    const stream = streamText({ ...asked, abortSignal: leaving.signal });
    for await (const piece of stream.textStream) if (piece) leaving.abort();
    return { aborted: leaving.signal.aborted };
  },

  async isCutOff() {
    const errors = [];
    const stream = streamText({ ...plain, onError: ({ error }) => errors.push(error) });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    return { text, messages: errors.map((error) => error.message ?? error) };
  },
});
