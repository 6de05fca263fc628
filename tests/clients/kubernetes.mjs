// Validates custom resources, a JSON list on stdin, against the schemas of their projects. Prints a
// JSON list with the errors of each: wrong values, and fields that the schema does not have.
const PACKAGES = {
  "keda.sh": "@kubernetes-models/keda",
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "external-secrets.io": "@kubernetes-models/external-secrets",
};

// The compiled validators ignore unknown fields, but read every field that they know.
function watch(value, path, seen) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, name) {
      const inner = target[name];
      if (typeof name !== "string" || !Object.hasOwn(target, name)) return inner;
      seen.add(`${path}/${name}`);
      return watch(inner, `${path}/${name}`, seen);
    },
  });
}

function* listPaths(value, path = "") {
  if (value === null || typeof value !== "object") return;
  for (const [name, inner] of Object.entries(value)) {
    yield `${path}/${name}`;
    yield* listPaths(inner, `${path}/${name}`);
  }
}

async function validate(object) {
  const [group] = object.apiVersion.split("/");
  const module = await import(`${PACKAGES[group]}/${object.apiVersion}`);
  const seen = new Set();
  const model = new module[object.kind](object); // copies the object, so watch it afterwards
  model.spec = watch(object.spec, "/spec", seen);
  try {
    model.validate();
  } catch (error) {
    return [error.message];
  }
  const unknown = [...listPaths(object.spec, "/spec")].filter((path) => !seen.has(path));
  return unknown.map((path) => `unknown field ${path}`);
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const objects = JSON.parse(Buffer.concat(chunks).toString());
console.log(JSON.stringify(await Promise.all(objects.map(validate))));
