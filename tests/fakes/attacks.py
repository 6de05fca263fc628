"""The attack cases of tests/data/attacks.yaml, as bytes of requests."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[1] / "data" / "attacks.yaml"
KEY = "canary-key"
PROMPT = "canary-prompt"
_REQUEST_KEYS = {
    "fields",
    "json",
    "every_field",
    "raw",
    "raw_fields",
    "path",
    "wire",
    "schema",
    "image",
}
_JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class AttackRequest:
    """One request; `head` and `body` are sent over the connection."""

    name: str
    head: bytes
    body: bytes = b""


@dataclass(frozen=True)
class Attempt:
    """One or more requests and the expected response."""

    spec: Mapping[str, Any]
    routes: Mapping[str, Any]
    statuses: list[int] = field(init=False)

    def __post_init__(self) -> None:
        status = self.spec["status"]
        object.__setattr__(self, "statuses", status if isinstance(status, list) else [status])
        assert len(_REQUEST_KEYS & self.spec.keys()) == 1, self.spec.keys()

    def requests(
        self, fields: Mapping[str, list[str]], placeholders: Mapping[str, str]
    ) -> Iterator[AttackRequest]:
        """Yield the requests; `fields` are the fields of each route.

        `placeholders` are replaced by their values in paths and default bodies of routes.
        """
        spec = self.spec
        if "wire" in spec:
            yield AttackRequest(repr(spec["wire"][:60]), spec["wire"].encode("latin-1"))
        elif "path" in spec:
            route = {"path": spec["path"], "method": spec.get("method", "GET")}
            yield self._build_request(f"{route['method']} {spec['path'][:60]}", route, b"")
        else:
            # Routes with headers of their own get only the attempts that name them.
            default = [name for name, route in self.routes.items() if "headers" not in route]
            for name in spec.get("to", default):
                route = json.loads(_replace(json.dumps(self.routes[name]), placeholders))
                for case, body in self._build_bodies(route, fields[name]):
                    for number in range(spec.get("times", 1)):
                        content = _encode(body).replace(b"%n%", b"%d" % number)
                        yield self._build_request(f"{name} {case}", route, content)

    def _build_bodies(
        self, route: Mapping[str, Any], names: list[str]
    ) -> Iterator[tuple[str, Any]]:
        spec, base = self.spec, route["body"]
        if "raw" in spec:
            yield "", spec["raw"]
        elif "raw_fields" in spec:
            yield "", f"{json.dumps(base)[:-1]},{spec['raw_fields']}}}"
        elif "every_field" in spec:
            for name in sorted(set(names) & set(spec.get("in", names))):
                yield name, _add_json_fields(base, {name: spec["every_field"]})
        elif "json" in spec:
            yield " ".join(spec["json"]), _add_json_fields(base, spec["json"])
        else:
            fields = _build_fields(spec)
            yield " ".join(fields)[:60], json.dumps({**base, **fields})

    def _build_request(self, name: str, route: Mapping[str, Any], body: bytes) -> AttackRequest:
        method, path = route.get("method", "POST"), route["path"]
        own = {**route.get("headers", {}), **self.spec.get("headers", {})}
        headers = {"host": "gateway", **_JSON, **own}
        if self.spec.get("chunked"):
            headers["transfer-encoding"] = "chunked"
            pieces = [body[at : at + 60_000] for at in range(0, len(body), 60_000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""])
        elif method != "GET":
            headers["content-length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        return AttackRequest(name, "\r\n".join([*lines, "", ""]).encode(), body)


def _replace(text: str, placeholders: Mapping[str, str]) -> str:
    for placeholder, value in placeholders.items():
        text = text.replace(placeholder, value)
    return text


def _build_fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    if "schema" in spec:
        shape = {"name": "shape", "schema": spec["schema"]}
        return {"response_format": {"type": "json_schema", "json_schema": shape}}
    if "image" in spec:
        part = {"type": "image_url", "image_url": {"url": spec["image"]}}
        return {"messages": [{"role": "user", "content": [part]}]}
    fields: dict[str, Any] = spec["fields"]
    return fields


def _add_json_fields(base: Mapping[str, Any], json_fields: Mapping[str, str]) -> str:
    fields = {name: json.dumps(value) for name, value in base.items()} | dict(json_fields)
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def _encode(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


class _Loader(yaml.SafeLoader):
    pass


def _sequence(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    assert isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True)


def _times(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    number, text = _sequence(loader, node)
    return str(text) * number


def _list(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    number, item = _sequence(loader, node)
    return [item] * number


def _numbered(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    count, name, value = _sequence(loader, node)
    text = json.dumps(value)
    fixed = "%n" not in text
    return {
        name.replace("%n%", str(n)): value
        if fixed
        else json.loads(text.replace("%n+1%", str(n + 1)))
        for n in range(count)
    }


def _each(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    number, item = _sequence(loader, node)
    text = json.dumps(item)
    return [json.loads(text.replace("%i%", str(n))) for n in range(number)]


def _nested(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
    depth, name = _sequence(loader, node)
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {name: value}
    return value


def _join(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    return "".join(_sequence(loader, node))


def _bytes(loader: yaml.SafeLoader, node: yaml.Node) -> bytes:
    assert isinstance(node, yaml.ScalarNode)
    return bytes.fromhex(str(loader.construct_scalar(node)))


_TAGS = {"times": _times, "list": _list, "numbered": _numbered, "nested": _nested, "join": _join}
for _tag, _constructor in {**_TAGS, "each": _each, "bytes": _bytes}.items():
    _Loader.add_constructor(f"!{_tag}", _constructor)


@cache
def _nodes() -> tuple[yaml.Node, dict[str, yaml.Node]]:
    # Cases are constructed one at a time, because together they take gigabytes.
    document = yaml.compose(FILE.read_text(), _Loader)
    assert isinstance(document, yaml.MappingNode)
    parts = {name.value: value for name, value in document.value}
    cases = {name.value: value for name, value in parts["cases"].value}
    assert len(cases) == len(parts["cases"].value), "duplicate id"
    return parts["routes"], cases


def _construct(node: yaml.Node) -> Any:
    return _Loader("").construct_object(node, deep=True)


def load_routes() -> dict[str, Any]:
    """Load path and default body, and maybe method and headers, of each route with a body."""
    routes: dict[str, Any] = _construct(_nodes()[0])
    return routes


def list_ids() -> list[str]:
    """List the ids of all cases, in order."""
    return list(_nodes()[1])


def load_case(name: str) -> dict[str, Any]:
    """Load a case, with an Attempt for each of its `attempts`."""
    case: dict[str, Any] = _construct(_nodes()[1][name])
    return {**case, "attempts": [Attempt(spec, load_routes()) for spec in case.get("attempts", ())]}


def list_ids_with_attempts() -> list[str]:
    """List the ids of cases that have attempts."""
    keys = {name: {key.value for key, _ in node.value} for name, node in _nodes()[1].items()}
    return [name for name in list_ids() if "attempts" in keys[name]]
