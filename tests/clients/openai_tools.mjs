// Tools and structured output with OpenAI's Node client.

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";

import { baseURL, model, question as capitalQuestion, report } from "./report.mjs";
import { capital, description, name, parameters, question, weather } from "./weather.mjs";

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const chat = client.chat.completions;
const plain = { model, temperature: 0, max_tokens: 60, ...question };
const tools = [zodFunction({ name, description, parameters })];
const forced = { ...plain, tools, tool_choice: { type: "function", function: { name } } };

/** Returns each tool result under the id of its call, and reads the final message. */
async function roundTrip({ message, finish_reason }) {
  const { received, lookUp } = weather();
  const results = message.tool_calls.map((call) => ({
    role: "tool",
    tool_call_id: call.id,
    content: JSON.stringify(lookUp(JSON.parse(call.function.arguments))),
  }));
  const messages = [...question.messages, message, ...results];
  const request = { ...plain, max_tokens: 5, messages, tools, tool_choice: "none" };
  const last = (await chat.create(request)).choices[0];
  return {
    finish_reason,
    content: message.content,
    calls: message.tool_calls.map(({ id, type, function: { name } }) => [id.slice(0, 5), type, name]),
    received,
    hasFinalMessage: last.message.content !== "" && !last.message.tool_calls,
  };
}

await report({
  async tool() {
    return roundTrip((await chat.create(forced)).choices[0]);
  },

  async toolStreamed() {
    const fragments = [];
    for await (const chunk of await chat.create({ ...forced, stream: true })) {
      fragments.push(...(chunk.choices[0]?.delta.tool_calls ?? []));
    }
    const [head, ...rest] = fragments;
    return {
      id: head.id.slice(0, 5),
      name: head.function.name,
      indices: [...new Set(fragments.map(({ index }) => index))],
      namedOnce: rest.every(({ id, function: { name } }) => id === undefined && name === undefined),
      arguments: JSON.parse(fragments.map((part) => part.function.arguments ?? "").join("")),
    };
  },

  async toolStreamHelper() {
    return roundTrip((await chat.stream(forced).finalChatCompletion()).choices[0]);
  },

  async runTools() {
    const { received, lookUp } = weather();
    const tool = zodFunction({ name, description, parameters, function: lookUp });
    const request = { ...forced, tools: [tool], tool_choice: "required" };
    // `required` forces a call in every completion, so the number of completions is limited.
    await chat.runTools(request, { maxChatCompletions: 2 }).done();
    return { received };
  },

  async parse() {
    const response_format = zodResponseFormat(capital, "capital");
    const request = { ...plain, ...capitalQuestion, response_format };
    const { message, finish_reason } = (await chat.parse(request)).choices[0];
    return { finish_reason, fields: Object.keys(message.parsed), city: message.parsed.city };
  },

  async parseStreamed() {
    const response_format = zodResponseFormat(capital, "capital");
    const stream = chat.stream({ ...plain, ...capitalQuestion, response_format });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    return { finish_reason, fields: Object.keys(message.parsed), city: message.parsed.city };
  },
});
