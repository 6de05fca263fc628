// One tool, its result, and what is asked: the same for all clients.

import { z } from "zod";

export const question = {
  messages: [{ role: "user", content: "What is the weather in Paris?" }],
};
export const name = "get_weather";
export const description = "The weather in a city";
export const parameters = z.object({ city: z.string() });
export const capital = z.object({ country: z.string(), city: z.string() });

/** The tool; `asked` are the arguments that it was called with. */
export function weather() {
  const asked = [];
  const lookUp = (given) => {
    asked.push(given);
    return { sky: "clear", celsius: 21 };
  };
  return { asked, lookUp };
}
