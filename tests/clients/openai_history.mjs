// What the official client for Node has read, handed back as history.

import OpenAI from "openai";

import { baseURL, model, question, report } from "./report.mjs";

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const chat = client.chat.completions;
const asked = { model, ...question };

async function goOn(message) {
  const messages = [...question.messages, message, { role: "user", content: "Go on" }];
  return (await chat.create({ model, messages })).choices[0].message.content;
}

await report({
  created: async () => goOn((await chat.create(asked)).choices[0].message),

  parsed: async () => goOn((await chat.parse(asked)).choices[0].message),

  streamed: async () => goOn((await chat.stream(asked).finalChatCompletion()).choices[0].message),

  async plain() {
    const { content } = (await chat.create(asked)).choices[0].message;
    return goOn({ role: "assistant", content });
  },
});
