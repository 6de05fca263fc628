"""The choice of the model and of accepted certificates."""

from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.loadtest.client.address import Trust, parse_address
from maxgate.loadtest.options import Options
from maxgate.loadtest.target import choose_chat_model, resolve_targets


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        ([{"id": "llama"}, {"id": "qwen"}], "llama"),
        ([{"id": "text-embedding-3-small"}, {"id": "llama"}], "llama"),
        ([{"id": "BAAI/bge-m3"}, {"id": "intfloat/e5-large"}, {"id": "qwen"}], "qwen"),
        ([{"id": "sentence-transformers/all-MiniLM-L6-v2"}, {"id": "llama"}], "llama"),
        ([{"id": "a", "type": "embedding"}, {"id": "b", "type": "chat"}], "b"),
        ([{"id": "a", "task": "rerank"}, {"id": "b"}], "b"),
        ([{"id": "gte5000-instruct"}], "gte5000-instruct"),
        ([{}, {"id": "llama"}], "llama"),
        ([], None),
    ],
)
def test_choice(models: list[dict[str, str]], chosen: str | None) -> None:
    """The first model that can chat is chosen."""
    assert choose_chat_model(models, "http://h") == chosen


def test_no_chat_model() -> None:
    """A server with embedding models only is an error that names them and the flag."""
    with pytest.raises(ConfigurationError) as raised:
        choose_chat_model([{"id": "bge-m3"}, {"id": "whisper-1"}], "http://h:1")
    expected = "http://h:1 lists no chat model, only bge-m3, whisper-1; choose one with --model"
    assert str(raised.value) == expected


def test_credentials_in_url() -> None:
    """User and password of the URL become a header, which --api-key and --header replace."""
    basic = {"authorization": "Basic dTpw"}
    assert parse_address("http://u:p@h:1/v1")[1] == basic
    (plain,) = resolve_targets(Options(url="http://u:p@h:1", model="m"))
    (keyed,) = resolve_targets(Options(url="http://u:p@h:1", model="m", api_key="k"))
    assert (plain.url, plain.headers) == ("http://h:1", basic)
    assert keyed.headers == {"authorization": "Bearer k"}


def test_cacert(tmp_path: Path) -> None:
    """A file without certificates is an error that names it."""
    path = tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match=r"ca\.pem: no certificates .*: No such file"):
        Trust(str(path)).create_context()
    path.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"ca\.pem: no certificates in PEM format"):
        Trust(str(path)).create_context()


def test_insecure() -> None:
    """Every certificate is accepted on request only."""
    modes = [Trust(insecure=insecure).create_context().verify_mode for insecure in (True, False)]
    assert [mode.name for mode in modes] == ["CERT_NONE", "CERT_REQUIRED"]
