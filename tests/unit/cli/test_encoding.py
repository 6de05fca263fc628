"""Tests of output in terminals without UTF-8."""

import sys
from io import BytesIO, TextIOWrapper

import pytest

from maxgate.cli.encoding import accept_any_text, is_unicode


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"client ~ ### ?? ok\n"),
        ("latin-1", b"client \xb1 ### ?? ok\n"),
        ("utf-8", "client ± ███ 漢字 ok\n".encode()),
    ],
)
def test_characters_are_replaced(
    encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Characters outside the encoding are replaced one by one, so that columns stay aligned."""
    file = BytesIO()
    stream = TextIOWrapper(file, encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    accept_any_text()
    stream.write("client ± ███ 漢字 ok\n")
    stream.flush()
    assert file.getvalue() == written
    assert is_unicode(stream) == (encoding == "utf-8")
