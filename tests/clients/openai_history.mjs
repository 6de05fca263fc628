// Messages that OpenAI's Node client has read, sent back as history.

import OpenAI from "openai";

import { baseURL, model, question, report } from "./report.mjs";

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const chat = client.chat.completions;
const request = { model, ...question };

async function continueChat(message) {
  const messages = [...question.messages, message, { role: "user", content: "Go on" }];
  return (await chat.create({ model, messages })).choices[0].message.content;
}

await report({
  created: async () => continueChat((await chat.create(request)).choices[0].message),

  parsed: async () => continueChat((await chat.parse(request)).choices[0].message),

  async streamed() {
    const completion = await chat.stream(request).finalChatCompletion();
    return continueChat(completion.choices[0].message);
  },

  async plain() {
    const { content } = (await chat.create(request)).choices[0].message;
    return continueChat({ role: "assistant", content });
  },
});
