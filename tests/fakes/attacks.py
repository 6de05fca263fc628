"""The attack cases of tests/data/attacks.yaml, as bytes to be sent."""

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
_SENT_AS = {"fields", "json", "every_field", "raw", "raw_fields", "path", "wire", "schema", "image"}
_JSON = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class Sent:
    """One request: `head` and `body` are what goes over the connection."""

    name: str
    head: bytes
    body: bytes = b""


@dataclass(frozen=True)
class Try:
    """One thing to be sent, in one or more requests, and what has to come back."""

    spec: Mapping[str, Any]
    routes: Mapping[str, Any]
    statuses: list[int] = field(init=False)

    def __post_init__(self) -> None:
        status = self.spec["status"]
        object.__setattr__(self, "statuses", status if isinstance(status, list) else [status])
        assert len(_SENT_AS & self.spec.keys()) == 1, self.spec.keys()

    def requests(self, fields: Mapping[str, list[str]]) -> Iterator[Sent]:
        """All of them; `fields` are those that each route knows."""
        spec = self.spec
        if "wire" in spec:
            yield Sent(repr(spec["wire"][:60]), spec["wire"].encode("latin-1"))
        elif "path" in spec:
            method = spec.get("method", "GET")
            yield self._sent(f"{method} {spec['path'][:60]}", method, spec["path"], b"")
        else:
            for route in spec.get("to", self.routes):
                for name, body in self._bodies(self.routes[route], fields[route]):
                    for number in range(spec.get("times", 1)):
                        content = _as_bytes(body).replace(b"%n%", b"%d" % number)
                        path = self.routes[route]["path"]
                        yield self._sent(f"{route} {name}", "POST", path, content)

    def _bodies(self, route: Mapping[str, Any], names: list[str]) -> Iterator[tuple[str, Any]]:
        spec, base = self.spec, route["body"]
        if "raw" in spec:
            yield "", spec["raw"]
        elif "raw_fields" in spec:
            yield "", f"{json.dumps(base)[:-1]},{spec['raw_fields']}}}"
        elif "every_field" in spec:
            for name in sorted(set(names) & set(spec.get("in", names))):
                yield name, _with(base, {name: spec["every_field"]})
        elif "json" in spec:
            yield " ".join(spec["json"]), _with(base, spec["json"])
        else:
            given = _fields(spec)
            yield " ".join(given)[:60], json.dumps({**base, **given})

    def _sent(self, name: str, method: str, path: str, body: bytes) -> Sent:
        headers = {"host": "gateway", **_JSON, **self.spec.get("headers", {})}
        if self.spec.get("chunked"):
            headers["transfer-encoding"] = "chunked"
            pieces = [body[at : at + 60_000] for at in range(0, len(body), 60_000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*pieces, b""])
        elif method != "GET":
            headers["content-length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        return Sent(name, "\r\n".join([*lines, "", ""]).encode(), body)


def _fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    if "schema" in spec:
        shape = {"name": "shape", "schema": spec["schema"]}
        return {"response_format": {"type": "json_schema", "json_schema": shape}}
    if "image" in spec:
        part = {"type": "image_url", "image_url": {"url": spec["image"]}}
        return {"messages": [{"role": "user", "content": [part]}]}
    fields: dict[str, Any] = spec["fields"]
    return fields


def _with(base: Mapping[str, Any], written: Mapping[str, str]) -> str:
    kept = {name: json.dumps(value) for name, value in base.items()}
    return "{" + ",".join(f'"{name}":{text}' for name, text in {**kept, **written}.items()) + "}"


def _as_bytes(body: str | bytes) -> bytes:
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
    # Cases are built one at a time: together they take gigabytes.
    document = yaml.compose(FILE.read_text(), _Loader)
    assert isinstance(document, yaml.MappingNode)
    parts = {name.value: value for name, value in document.value}
    cases = {name.value: value for name, value in parts["cases"].value}
    assert len(cases) == len(parts["cases"].value), "an id is there twice"
    return parts["routes"], cases


def _built(node: yaml.Node) -> Any:
    return _Loader("").construct_object(node, deep=True)


def routes() -> dict[str, Any]:
    """Path and body of each route that takes one."""
    built: dict[str, Any] = _built(_nodes()[0])
    return built


def ids() -> list[str]:
    """All of them, in order."""
    return list(_nodes()[1])


def case(name: str) -> dict[str, Any]:
    """What the file says of it, with a Try for each of its `tries`."""
    built: dict[str, Any] = _built(_nodes()[1][name])
    return {**built, "tries": [Try(spec, routes()) for spec in built.get("tries", ())]}


def played() -> list[str]:
    """Those that have tries."""
    keys = {name: {key.value for key, _ in node.value} for name, node in _nodes()[1].items()}
    return [name for name in ids() if "tries" in keys[name]]
