// The official client for Node.

import OpenAI from "openai";

import { baseURL, failure, longQuestion as long, model, question, report } from "./report.mjs";

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const plain = { model, temperature: 0, max_tokens: 30, ...question };
const chat = client.chat.completions;

const answered = (answer) => ({
  text: answer.choices[0].message.content,
  finish_reason: answer.choices[0].finish_reason,
  total_tokens: answer.usage.total_tokens,
});

async function errorOf(fields) {
  const error = await failure(chat.create({ ...plain, ...fields }));
  const { status, type, code, param } = error;
  return { class: error.constructor.name, status, type, code, param };
}

async function readUntilItFails(stream) {
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
    return answered(await chat.create(plain));
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
    return answered(await stream.finalChatCompletion());
  },

  async rawResponse() {
    const { data, response, request_id } = await chat.create(plain).withResponse();
    const sameId = request_id === response.headers.get("x-request-id");
    return { ...answered(data), status: response.status, sameId, id: request_id.slice(0, 4) };
  },

  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    return { ids, retrieved: (await client.models.retrieve(model)).id };
  },

  unknownModel: () => errorOf({ model: "gpt-4" }),

  invalidTemperature: () => errorOf({ temperature: 2.5 }),

  async leaves() {
    const stream = await chat.create({ ...plain, ...long, max_tokens: 500, stream: true });
    for await (const _ of stream) break;
    return { aborted: stream.controller.signal.aborted };
  },

  async isCutOff() {
    return readUntilItFails(await chat.create({ ...plain, stream: true }));
  },
});
