// Command line of the programs in this folder: `node PROGRAM BASE_URL MODEL [CHECK...]`.

export const [baseURL, model, ...chosen] = process.argv.slice(2);

export const question = {
  messages: [{ role: "user", content: "What is the capital of France?" }],
};

export const longQuestion = {
  messages: [{ role: "user", content: "Tell me a long story about the sea." }],
};

/** Runs the chosen checks, or all of them, and prints each result as a line of JSON. */
export async function report(checks) {
  for (const check of chosen.length ? chosen : Object.keys(checks)) {
    console.log(JSON.stringify({ check, result: await runCheck(checks[check]) }));
  }
}

/** Returns the check's result or its error, so that the other checks still run. */
async function runCheck(check) {
  try {
    return await check();
  } catch (error) {
    return { thrown: error.name, message: error.message };
  }
}

/** Returns the error with which the promise is rejected. */
export async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("the promise was not rejected");
}
