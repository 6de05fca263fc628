// Checks of OpenAI's Node client.

import OpenAI from "openai";

import { baseURL, longQuestion as long, model, question, rejection, report } from "./report.mjs";

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const plain = { model, temperature: 0, max_tokens: 30, ...question };
const chat = client.chat.completions;

const summarize = (completion) => ({
  text: completion.choices[0].message.content,
  finish_reason: completion.choices[0].finish_reason,
  total_tokens: completion.usage.total_tokens,
});

async function catchError(fields) {
  const error = await rejection(chat.create({ ...plain, ...fields }));
  const { status, type, code, param } = error;
  return { class: error.constructor.name, status, type, code, param };
}

async function readUntilError(stream) {
  let text = "";
  try {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  } catch (error) {
    return { text, class: error.constructor.name, code: error.code };
  }
  return { text };
}

await report({
  async create() {
    return summarize(await chat.create(plain));
  },

  async stream() {
    const stream_options = { include_usage: true };
    let [text, usage] = ["", null];
    for await (const chunk of await chat.create({ ...plain, stream: true, stream_options })) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return { text, total_tokens: usage.total_tokens };
  },

  async streamHelper() {
    const stream = chat.stream({ ...plain, stream_options: { include_usage: true } });
    return summarize(await stream.finalChatCompletion());
  },

  async rawResponse() {
    const { data, response, request_id } = await chat.create(plain).withResponse();
    const sameId = request_id === response.headers.get("x-request-id");
    return { ...summarize(data), status: response.status, sameId, id: request_id.slice(0, 4) };
  },

  async models() {
    const ids = [];
    for await (const listed of client.models.list()) ids.push(listed.id);
    return { ids, retrieved: (await client.models.retrieve(model)).id };
  },

  unknownModel: () => catchError({ model: "gpt-4" }),

  invalidTemperature: () => catchError({ temperature: 2.5 }),

  async disconnect() {
    const stream = await chat.create({ ...plain, ...long, max_tokens: 500, stream: true });
    for await (const _ of stream) break;
    return { aborted: stream.controller.signal.aborted };
  },

  async streamCutOff() {
    return readUntilError(await chat.create({ ...plain, stream: true }));
  },
});
