"""Errors in settings: each names the source, the setting and the rule."""

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, setting_names
from tests.fakes.setting_sources import PORT, SOURCES, list_fields, load, read_error

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("name", [n for n, f in list_fields().items() if f.annotation is float])
def test_numbers_are_finite(
    set_value: Callable[[str, str, object], None], name: str, value: str
) -> None:
    """No setting accepts infinity or NaN."""
    set_value("environment", name, value)
    assert read_error() == f"setting {name}: Input should be a finite number"


@pytest.mark.parametrize("variable", [PORT, "MAXGATE_CONFIG"])
def test_two_spellings(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A variable in upper and in lower case is an error that names both."""
    monkeypatch.setenv(variable, "1")
    monkeypatch.setenv(variable.lower(), "2")
    message = "both {} and {} are set; they are the same setting: remove one"
    names = (variable, variable.lower())
    assert read_error() in {message.format(*names), message.format(*reversed(names))}


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SERVER__PORT", "x", "setting server.port: Input should be a valid integer"),
        ("SERVER__HOST", "", "setting server.host: the value is empty; leave the setting out to"),
        ("SERVER__PORT", "", "setting server.port: the value is empty"),
        ("CACHE_DIR", " ", "setting cache_dir: the value is empty"),
        ("STATE_DIR", "", "setting state_dir: the value is empty"),
        ("ENGINES", "", "setting engines: the value is empty"),
        ("CARDS", '["a.yaml", ""]', "setting cards: the list has an empty item; remove it"),
        ("SERVER__PORT", "70000", "setting server.port: Input should be less than or equal to"),
        ("SERVER__WORKERS", "0", "setting server.workers: Input should be greater than or equal"),
        (
            "SERVER__TRUSTED_PROXIES",
            "10.0.0.1/8",
            "setting server.trusted_proxies: '10.0.0.1/8' is not an address or network; write",
        ),
        (
            "SERVER__TRUSTED_PROXIES",
            "::1,*",
            "setting server.trusted_proxies: '*' is not an address or network; write 10.0.0.1 or",
        ),
        ("ENGINE__MODE", "vllm", "setting engine.mode: Input should be 'local', 'docker' or 'none"),
        ("ENGINES", "localhost:80", "setting engines[0].url: 'localhost:80' is not a URL; write"),
        ("ENGINES", "http://", "setting engines[0].url: 'http://' is not a URL"),
        ("ENGINES", "http://a:port", "setting engines[0].url: 'http://a:port' is not a URL"),
        ("ENGINES", "http://a,http://a:99999", "setting engines[1].url: 'http://a:99999' is not a"),
        ("ENGINES", "http://a b", "setting engines[0].url: 'http://a b' is not a URL"),
        ("ENGINES", "http://u:secret@a b", "setting engines[0].url: 'http://a b' is not a URL"),
        ("ENGINES", "u:secret@a:80", "setting engines[0].url: 'a:80' is not a URL"),
        ("ENGINES", "http://u:secret/x@a", "setting engines[0].url: 'http://a' is not a URL"),
        ("ENGINES", "http://a\x1b[2J", "setting engines[0].url: 'http://a\\x1b[2J' is not a URL"),
        ("ENGINES", "http://a..b", "setting engines[0].url: 'http://a..b' is not a URL"),
        ("ENGINES", "http://a?b", "setting engines[0].url: a base URL has no query and no"),
        ("ENGINES", "http://u:p@x@a", "setting engines[0].url: credentials with a literal @"),
        ("ENGINES", '[{"url": "http://a", "ca_file": "x"}]', "setting engines[0]: ca_file needs"),
        (
            "ENGINES",
            '[{"url": "https://a", "ca_file": "/none"}]',
            "setting engines[0]: ca_file '/none': No such file or directory",
        ),
        (
            "ENGINES",
            '[{"url": "https://a", "ca_file": "/dev/zero"}]',
            "setting engines[0]: ca_file '/dev/zero': not a regular file",
        ),
        (
            "ENGINES",
            '[{"url": "http://a", "metrics_url": "http://"}]',
            "setting engines[0].metrics_url: 'http://' is not a URL; write http://host:port/metrics",
        ),
        ("ENGINES", ",", "setting engines: the list is empty; write http://host:port"),
        ("ENGINES", "[http://a]", "setting engines: not a valid JSON list"),
        ("ENGINES", "[" * 10_000, "setting engines: not a valid JSON list"),
        ("ENGINES", '[{"url": "http://a", "wait": 1}]', "unknown setting engines[0].wait"),
        ("UPSTREAM__IDLE_TIMEOUT", "-1", "setting upstream.idle_timeout: Input should be greater"),
        (
            "SERVER__PROT",
            "1",
            "unknown setting MAXGATE_SERVER__PROT; did you mean MAXGATE_SERVER__",
        ),
        ("PROT", "1", "unknown setting MAXGATE_PROT; did you mean MAXGATE_SERVER__PORT?"),
        (
            "UPSTREAM__IDLE",
            "1",
            "unknown setting MAXGATE_UPSTREAM__IDLE; did you mean MAXGATE_UPST",
        ),
        ("CONFIGS", "1", "unknown setting MAXGATE_CONFIGS; did you mean MAXGATE_CONFIG?"),
        (
            "UPSTREAM",
            '{"idle_timeout": 1}',
            "MAXGATE_UPSTREAM is a section; set each of its settings by a variable, such as "
            "MAXGATE_UPSTREAM__CONNECT_TIMEOUT",
        ),
        (
            "ENGINE",
            '{"mode": "local"}',
            "MAXGATE_ENGINE is a section; set each of its settings by a variable, such as "
            "MAXGATE_ENGINE__MODE",
        ),
        (
            "MAX",
            "{}",
            "MAXGATE_MAX is a section; set each of its settings by a variable, such as "
            "MAXGATE_ENGINE__MODE",
        ),
        (
            "SERVER.PORT",
            "1",
            "unknown setting MAXGATE_SERVER.PORT; did you mean MAXGATE_SERVER__PORT?",
        ),
        ("XYZ", "1", "unknown setting MAXGATE_XYZ"),
        ("CONFIG", "missing.yaml", "missing.yaml: No such file or directory"),
        ("CONFIG", "secrets", "secrets: Is a directory"),
        ("ENV_FILE", "missing.env", "missing.env: No such file or directory"),
        ("SECRETS_DIR", "missing", "MAXGATE_SECRETS_DIR: missing is not a directory"),
    ],
)
def test_invalid_variables(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    """The error names the setting, the value or rule, and close names."""
    monkeypatch.setenv(f"MAXGATE_{variable}", value)
    assert read_error().startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "maxgate.yaml: unknown setting prot; did you mean server.port?"),
        ("prot:", "maxgate.yaml: unknown setting prot; did you mean server.port?"),
        ("max: {foo: 1}", "maxgate.yaml: unknown setting max.foo"),
        ("max: 5", "maxgate.yaml: unknown setting max; did you mean engine?"),
        (
            "server.port: 9",
            "maxgate.yaml: unknown setting server.port; write it as server: {port: ...}",
        ),
        (
            "max.card: a",
            "maxgate.yaml: unknown setting max.card; write it as engine: {card: ...}",
        ),
        (
            "MAXGATE_SERVER__PORT: 9",
            "maxgate.yaml: unknown setting MAXGATE_SERVER__PORT; write it as server: {port",
        ),
        (
            "config: a.yaml",
            "maxgate.yaml: unknown setting config; set MAXGATE_CONFIG in the environment",
        ),
        (
            "upstream: {idle: 1}",
            "maxgate.yaml: unknown setting upstream.idle; did you mean upstream.idle_timeout?",
        ),
        ("server: [", "maxgate.yaml, line 1: not valid YAML"),
        (
            "server: " + "[" * 5000,
            "maxgate.yaml, line 1: not valid YAML",
        ),
        (
            "server: " + "[" * 500,
            "maxgate.yaml: nested too deeply",
        ),
        (
            "server: {port: 1}\nserver: {}",
            "maxgate.yaml, line 2: 'server' twice",
        ),
        (
            "server:\n  port: 1\n  port: 2",
            "maxgate.yaml, line 3: 'port' twice",
        ),
        ("- port", "maxgate.yaml: must hold `setting: value` lines"),
        ("", "maxgate.yaml: the file is empty; remove it to use the defaults"),
        ("1: 2", "maxgate.yaml, line 1: '1' is not the name of a setting"),
        ("server:\n  1: 2", "maxgate.yaml, line 2: '1' is not the name of a setting"),
        ("server:\n  on: 2", "maxgate.yaml, line 2: 'on' is not the name of a setting"),
        ("engines:\n- {1: 2}", "maxgate.yaml, line 2: '1' is not the name of a setting"),
        ("[a]: 2", "maxgate.yaml, line 1: a list or mapping is not the name of a setting"),
        ("server: {host: 2026-13-01}", "maxgate.yaml: not valid YAML"),
        ("server: {port: x}", "maxgate.yaml: setting server.port: Input should be a valid integer"),
        (
            "server: 1",
            "maxgate.yaml: setting server must hold settings, such as server: {host: ...}",
        ),
        (
            "server: 1\nport: 1",
            "maxgate.yaml: setting server must hold settings, such as server: {host: ...}",
        ),
        ("engines: [5]", "maxgate.yaml: setting engines[0]: Input should be a URL or {url: ...}"),
        ("cards: [5]", "maxgate.yaml: setting cards[0]: Input should be a path"),
        (
            "pricing: {rate_cards: [{model: m, price: 5}]}",
            "maxgate.yaml: setting pricing.rate_cards[0].price: Input should be names with values",
        ),
        (
            "pricing: {rate_cards: [{model: m, price: {inputs: 5}}]}",
            "maxgate.yaml: unknown setting pricing.rate_cards[0].price.inputs",
        ),
        ("engines: []", "maxgate.yaml: setting engines: the list is empty; write http://host:port"),
    ],
)
def test_invalid_file(folder: Path, text: str, message: str) -> None:
    """The error names the file and line, or the setting."""
    (folder / "maxgate.yaml").write_text(text)
    assert read_error().startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "MAXGATE_PROT=1",
            ".env: unknown setting MAXGATE_PROT; did you mean MAXGATE_SERVER__PORT?",
        ),
        ("A=1\nMAXGATE_SERVER__PORT", ".env, line 2: write NAME=value"),
        ("A=1\nB='", ".env, line 2: write NAME=value"),
        ("MAXGATE_SERVER__PORT=x", ".env: setting server.port: Input should be a valid integer"),
        ("MAXGATE_CONFIG=x", ".env: MAXGATE_CONFIG is read from the environment only"),
        (
            "MAXGATE_SERVER__PORT=1\nA=1\nA=2\nMAXGATE_SERVER__PORT=1",
            ".env, line 4: the same setting twice",
        ),
        (
            "MAXGATE_SERVER__PORT=1\nexport maxgate_server__port=1",
            ".env, line 2: the same setting twice",
        ),
    ],
)
def test_invalid_dotenv(folder: Path, text: str, message: str) -> None:
    """The error names the file and line, or the setting."""
    (folder / ".env").write_text(text)
    assert read_error().startswith(message)


@pytest.mark.parametrize(("high", "low"), list(combinations(SOURCES[:-1], 2)))
def test_origin(high: str, low: str, set_port: Callable[[str, int], None], folder: Path) -> None:
    """An invalid value is reported with the file that it comes from."""
    origins = {"secrets": f"{folder}/secrets: ", "dotenv": ".env: ", "file": "maxgate.yaml: "}
    set_port(low, 1)
    set_port(high, -1)
    assert read_error().startswith(f"{origins.get(high, '')}setting server.port: Input should be")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAXGATE_SERVICE_HOST", "10.0.0.1"),
        ("MAXGATE_SERVICE_PORT", "8000"),
        ("MAXGATE_SERVICE_PORT_HTTP", "8000"),
        ("MAXGATE_PORT", "tcp://10.0.0.1:8000"),
        ("MAXGATE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("MAXGATE_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("MAXGATE_ENGINE_PORT", "tcp://10.0.0.1:8000"),
        ("MAXGATE_ENGINE_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_service_links(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Variables that Kubernetes sets for Services named `maxgate` are no settings."""
    monkeypatch.setenv(variable, value)
    assert load() == (Settings(), [])


def test_no_suggestion(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A suggestion is a name that is valid in the same place."""
    monkeypatch.setenv("MAXGATE_NOPE", "1")
    assert read_error() == "unknown setting MAXGATE_NOPE"
    monkeypatch.delenv("MAXGATE_NOPE")
    (folder / ".env").write_text("MAXGATE_CONFIGS=1")
    assert read_error() == ".env: unknown setting MAXGATE_CONFIGS"
    (folder / ".env").unlink()
    (folder / "maxgate.yaml").write_text("engines: [{url: http://a, port: 1}]")
    assert read_error() == "maxgate.yaml: unknown setting engines[0].port"


@pytest.mark.parametrize("value", [[], [[]], {"a": 1}, [{"a": 1}], None, True, 1.5, "x", [None]])
@pytest.mark.parametrize("name", sorted({*setting_names(), *Settings.model_fields}))
def test_wrong_types(
    set_value: Callable[[str, str, object], None], name: str, value: object
) -> None:
    """No message names a class of Python."""
    set_value("file", name, value)
    try:
        load()
    except ConfigurationError as error:
        message = str(error)
        assert message.startswith("maxgate.yaml: ")
        rule = message.replace(
            name.rpartition(".")[2], ""
        )  # `service_class` is a name of the gateway's own
        assert not re.search("class|instance|dictionary|Settings|None", rule)


def test_invalid_secret(folder: Path) -> None:
    """The error names the secrets directory."""
    (folder / "secrets" / "maxgate_prot").write_text("1")
    assert read_error().startswith(f"{folder}/secrets: unknown setting MAXGATE_PROT; did you mean")


def test_secret_in_two_spellings(folder: Path) -> None:
    """A secret in upper and in lower case is an error that names both."""
    (folder / "secrets" / "MAXGATE_CARDS").write_text("x.yaml")
    (folder / "secrets" / "maxgate_cards").write_text("x.yaml")
    assert read_error() == (
        f"{folder}/secrets: both MAXGATE_CARDS and maxgate_cards are set; "
        "they are the same setting: remove one"
    )


def test_secret_is_not_a_file(folder: Path) -> None:
    """A folder or a broken link with the name of a setting is not ignored."""
    path = folder / "secrets" / "maxgate_server"
    message = (
        f"{path}: not a file; a secret is a file named as its variable, "
        "such as MAXGATE_SERVER__PORT"
    )
    path.symlink_to("missing")
    assert read_error() == message
    path.unlink()
    path.mkdir()
    (path / "port").write_text("1")
    assert read_error() == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maxgate.yaml", "maxgate.yaml: not UTF-8 text"),
        (".env", ".env: not UTF-8 text"),
        ("secrets/MAXGATE_CARDS", "/MAXGATE_CARDS: not UTF-8 text"),
    ],
)
def test_binary_file(folder: Path, name: str, message: str) -> None:
    """A file that is not text is named."""
    (folder / name).write_bytes(b"\xff\xfe\x00")
    assert read_error().endswith(message)
