// One tool, its result and the question: the same for all clients.

import { z } from "zod";

export const question = {
  messages: [{ role: "user", content: "What is the weather in Paris?" }],
};
export const name = "get_weather";
export const description = "The weather in a city";
export const parameters = z.object({ city: z.string() });
export const capital = z.object({ country: z.string(), city: z.string() });

/** The tool; `received` collects the arguments of its calls. */
export function weather() {
  const received = [];
  const lookUp = (input) => {
    received.push(input);
    return { sky: "clear", celsius: 21 };
  };
  return { received, lookUp };
}
