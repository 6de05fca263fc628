"""`maxgate engines` and `maxgate reload` print results and errors in one line each."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from maxgate.cli.main import main
from maxgate.server.instances import Instance, InstanceFile

ENGINE = {
    "id": "abc",
    "object": "engine",
    "url": "http://a:8080",
    "state": "healthy",
    "draining": False,
    "models": ["llama", "mini"],
    "in_flight": 3,
    "breakers": {"llama": "open", "mini": "closed"},
    "weight": 2.0,
    "max_concurrency": None,
    "source": "configuration",
    "error": None,
}
OTHER = {**ENGINE, "id": "d", "url": "http://b", "models": [], "breakers": {}, "draining": True}
RELOAD = {
    "object": "reload",
    "changes": [
        {"setting": "engines http://b", "before": None, "after": "{}", "takes_effect": "now"},
        {
            "setting": "server.port",
            "before": "8000",
            "after": "9000",
            "takes_effect": "gateway_restart",
        },
    ],
}


class Admin:
    """A gateway with the responses by method and path, and the requests that it got."""

    def __init__(self) -> None:
        listed = {"object": "list", "data": [ENGINE, OTHER], "workers": 2}
        self.responses: dict[str, tuple[int, Any]] = {
            "GET /admin/engines": (200, listed),
            "POST /admin/engines": (201, OTHER),
            "PATCH /admin/engines/abc": (200, {**ENGINE, "draining": True}),
            "DELETE /admin/engines/abc": (200, {"id": "abc", "object": "engine", "deleted": True}),
            "POST /admin/reload": (200, RELOAD),
        }
        self.requests: list[tuple[str, Any]] = []
        self.url = ""


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that run on this machine are those of the test."""
    monkeypatch.setenv("MAXGATE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def admin() -> Iterator[Admin]:
    """The admin API of a gateway."""
    fake = Admin()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            name = f"{self.command} {self.path}"
            fake.requests.append((name, json.loads(body) if body else None))
            status, content = fake.responses[name]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(
                content if isinstance(content, bytes) else json.dumps(content).encode()
            )

        do_GET = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `maxgate` and returns exit code, stdout and stderr."""

    def run_command(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["maxgate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run_command


def test_list(admin: Admin, run: Any) -> None:
    """The table has a line for each engine."""
    assert run("engines", "list", "--url", f"{admin.url}/v1") == (
        0,
        "ID   URL            STATE              MODELS       IN FLIGHT  BREAKER      WEIGHT\n"
        "abc  http://a:8080  healthy            llama, mini  3          llama: open  2\n"
        "d    http://b       healthy, draining  -            3          closed       2\n",
        "",
    )


def test_json(admin: Admin, run: Any) -> None:
    """--json prints the response of the admin API."""
    code, stdout, _ = run("engines", "list", "--json", "--url", admin.url)
    assert (code, json.loads(stdout)["data"]) == (0, [ENGINE, OTHER])


@pytest.mark.parametrize(
    ("arguments", "request_sent", "printed"),
    [
        (
            ("add", "http://b", "--weight", "2"),
            ("POST /admin/engines", {"url": "http://b", "weight": 2}),
            "added http://b with the id d\n",
        ),
        (
            ("drain", "abc"),
            ("PATCH /admin/engines/abc", {"draining": True}),
            "drained http://a:8080: 3 requests still run\n",
        ),
        (
            ("undrain", "http://a:8080/v1"),
            ("PATCH /admin/engines/abc", {"draining": False}),
            "http://a:8080 gets requests again\n",
        ),
        (
            ("remove", "http://a:8080/"),
            ("DELETE /admin/engines/abc", None),
            "removed http://a:8080\n",
        ),
    ],
)
def test_changes(
    admin: Admin, run: Any, arguments: tuple[str, ...], request_sent: Any, printed: str
) -> None:
    """A change names an engine by id or URL, and prints its result."""
    assert run("engines", *arguments, "--url", admin.url) == (0, printed, "")
    assert admin.requests[-1] == request_sent


def test_reload(admin: Admin, run: Any) -> None:
    """A reload prints each change, and what it needs to take effect."""
    assert run("reload", "--url", admin.url)[1] == (
        "engines http://b: added (applied)\n"
        "server.port: 8000 -> 9000 (needs a new start of `maxgate serve`)\n"
    )


def test_unknown_engine(admin: Admin, run: Any) -> None:
    """The error lists the engines that there are."""
    message = "the gateway has no engine 'x'; it has abc (http://a:8080), d (http://b)"
    assert run("engines", "drain", "x", "--url", admin.url) == (1, "", f"maxgate: {message}\n")


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (403, {"error": {"message": "Only this machine."}}, "Only this machine"),
        (404, {"error": {"message": "Unknown path: x."}}, "{url} has no admin API; it is not this"),
        (404, b"not found", "{url} has no admin API; it is not this version of maxgate"),
        (500, b"<html>", "{url} responded with status 500"),
        (200, b"<html>", "{url} responded with status 200"),
        (200, [], "{url} responded with status 200"),
    ],
)
def test_errors(admin: Admin, run: Any, status: int, content: Any, message: str) -> None:
    """An error of the gateway, or of another server, is one line."""
    admin.responses["GET /admin/engines"] = status, content
    code, stdout, stderr = run("engines", "list", "--url", admin.url)
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"maxgate: {message.format(url=admin.url)}")
    assert stderr.count("\n") == 1


def test_no_gateway(run: Any) -> None:
    """Without a gateway, the error says how to start or name one."""
    message = "no gateway runs at http://127.0.0.1:9; start it with `maxgate serve`, or name its"
    for command in (("engines", "list"), ("reload",)):
        code, _, stderr = run(*command, "--url", "http://127.0.0.1:9")
        assert (code, stderr) == (1, f"maxgate: {message} URL with --url\n")


@pytest.mark.parametrize(
    "command",
    [
        ("engines", "list"),
        ("engines", "canary", "--url", "http://new"),
        ("reload",),
        ("models", "swap", "a", "b"),
    ],
)
@pytest.mark.parametrize(
    ("config", "url"),
    [
        ("server: {port: 9}", "http://127.0.0.1:9"),
        ("server: {host: 0.0.0.0, port: 9}", "http://127.0.0.1:9"),
        ("server: {host: '::', port: 9}", "http://[::1]:9"),
        ("server: {port: 9000}\nadmin: {port: 9}", "http://127.0.0.1:9"),
        ("server: {port: 9000}\nadmin: {host: '::1', port: 9}", "http://[::1]:9"),
    ],
)
def test_url_of_settings(
    run: Any, folder: Path, command: tuple[str, ...], config: str, url: str
) -> None:
    """Without a URL, a command uses the one of its settings."""
    (folder / "maxgate.yaml").write_text(config)
    _, stdout, stderr = run(*command)
    assert (stdout, stderr) == (
        "",
        f"maxgate: no gateway runs at {url}; start it with `maxgate serve`, or name its URL with "
        "--url\n",
    )


def test_url_of_variable(admin: Admin, run: Any, folder: Path) -> None:
    """Variables count as for `maxgate serve`; --url overrides all settings, which are not read."""
    (folder / "maxgate.yaml").write_text("server: {port: 9}")
    port = admin.url.rpartition(":")[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXGATE_SERVER__PORT", port)
        assert run("reload")[0] == 0
    (folder / "maxgate.yaml").write_text("unknown: 1")
    assert run("reload", "--url", admin.url)[0] == 0
    assert [name for name, _ in admin.requests] == ["POST /admin/reload"] * 2


def test_random_port(run: Any, folder: Path) -> None:
    """A port that is chosen at the start is known while the gateway runs."""
    (folder / "maxgate.yaml").write_text("server: {port: 0}")
    assert run("reload") == (
        2,
        "",
        "maxgate: setting server.port is 0, so the port is chosen when the gateway starts, and "
        f"none runs in {folder}/state; name its URL with --url (`engines canary`: --gateway)\n",
    )


@pytest.mark.parametrize("port", [0, 9, None])
def test_running_gateway(admin: Admin, run: Any, folder: Path, port: int | None) -> None:
    """The port of the running gateway counts, because flags may override that of the settings."""
    running = int(admin.url.rpartition(":")[2])
    port = running if port is None else port
    (folder / "maxgate.yaml").write_text(f"server: {{port: {port}}}")
    with ExitStack() as stack:
        for one in (7, running) if port == running else (running,):
            file = stack.enter_context(InstanceFile(folder / "state", one))
            file.write(Instance(os.getpid(), one))
        assert run("reload")[0] == 0
    assert [name for name, _ in admin.requests] == ["POST /admin/reload"]


def test_several_gateways(run: Any, folder: Path) -> None:
    """With several gateways, the settings must name the port of one of them."""
    (folder / "maxgate.yaml").write_text("server: {port: 9}")
    with ExitStack() as stack:
        for port in (7, 8):
            file = stack.enter_context(InstanceFile(folder / "state", port))
            file.write(Instance(os.getpid(), port))
        assert run("reload") == (
            2,
            "",
            "maxgate: gateways run on the ports 7, 8, and none on server.port 9; name its URL with "
            "--url (`engines canary`: --gateway)\n",
        )


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a", "http://"])
def test_invalid_url(run: Any, url: str) -> None:
    """An URL without scheme or host is a usage error."""
    code, _, stderr = run("engines", "list", "--url", url)
    assert code == 2
    assert "is not a URL; write http://127.0.0.1:8000" in stderr


CANARY = {
    "url": "http://new",
    "mirror": True,
    "share": 5.0,
    "state": "running",
    "error": None,
    "workers": 1,
    "seconds": 2.0,
    "requests": 200,
    "completed": 200,
    "seen": 200,
    "skipped": {},
    "errors": 0,
    "causes": {},
    "agreement": None,
    "times": [],
    "checks": [],
    "verdict": "pass",
}


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_canary(admin: Admin, run: Any, verdict: str, code: int) -> None:
    """A canary is started with its thresholds and ended, and the verdict is the exit code."""
    admin.responses["POST /admin/canary"] = 201, CANARY
    admin.responses["DELETE /admin/canary"] = 200, {**CANARY, "verdict": verdict}
    flags = ("--url", "http://new", "--mirror", "--gateway", admin.url, "--max-slowdown", "25")
    assert run("engines", "canary", *flags)[:2] == (
        code,
        "http://new: 5 % of the greedy requests mirrored, 200 requests in 2 s, workers: 1\n\n"
        "errors of the new engine: 0\nskipped of 200 requests: 0\n\n"
        f"verdict: {verdict}\n",
    )
    [(_, body), (ended, _)] = admin.requests
    assert body == {
        "url": "http://new",
        "ca_file": None,
        "mirror": True,
        "share": 5,
        "requests": 200,
        "max_seconds": 600,
        "min_agreement": 95,
        "max_slowdown": 25,
        "max_errors": 1,
        "near_tie": 0.5,
    }
    assert ended == "DELETE /admin/canary"
    code_of_json, stdout, _ = run("engines", "canary", *flags, "--json")
    assert (code_of_json, json.loads(stdout)["verdict"]) == (code, verdict)


def test_canary_that_cannot_run(admin: Admin, run: Any) -> None:
    """The exit code of a refusal and of an unreachable engine is not that of a verdict."""
    flags = ("engines", "canary", "--url", "http://new", "--gateway", admin.url)
    admin.responses["POST /admin/canary"] = 409, {"error": {"message": "One runs already."}}
    assert run(*flags) == (4, "", "maxgate: One runs already\n")
    failed = {**CANARY, "state": "starting", "completed": 0, "error": "connection refused"}
    admin.responses["POST /admin/canary"] = 201, failed
    admin.responses["DELETE /admin/canary"] = 200, failed
    message = "maxgate: the new engine at http://new: connection refused\n"
    assert run(*flags) == (4, "", message)
    assert admin.requests[-1][0] == "DELETE /admin/canary"
    assert run("engines", "canary")[0] == 2
