// The command line of the programs in this folder: `node PROGRAM BASE_URL MODEL [CHECK...]`.

export const [baseURL, model, ...chosen] = process.argv.slice(2);

export const question = {
  messages: [{ role: "user", content: "What is the capital of France?" }],
};

export const longQuestion = {
  messages: [{ role: "user", content: "Tell me a long story about the sea." }],
};

/** Runs the chosen checks, or all, and prints a line of JSON with each one's result. */
export async function report(checks) {
  for (const check of chosen.length ? chosen : Object.keys(checks)) {
    console.log(JSON.stringify({ check, result: await resultOf(checks[check]) }));
  }
}

/** What the check returns; what it throws is its result too, so that the others still run. */
async function resultOf(check) {
  try {
    return await check();
  } catch (error) {
    return { thrown: error.name, message: error.message };
  }
}

/** The error that the promise is rejected with. */
export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("this should have failed");
}
