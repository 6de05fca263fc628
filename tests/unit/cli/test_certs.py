"""`maxgate certs dev`."""

import re
import ssl
from pathlib import Path

import pytest

from maxgate.cli.certificates import read_certificate, read_hosts
from tests.fakes.command_line import Run
from tests.unit.cli.test_base_install import format_missing, run_python

LOCAL = ["localhost", "127.0.0.1", "::1"]


class Certs:
    """Runs `maxgate certs dev` with folders of its own."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self.out, self.ca = folder / "tls", folder / "ca"

    def dev(self, *flags: str) -> tuple[int, str, str]:
        return self._run("certs", "dev", "--out", str(self.out), "--ca-dir", str(self.ca), *flags)

    def read(self, name: str) -> bytes:
        return (self.out / name).read_bytes()

    def read_hosts(self) -> list[str]:
        return read_hosts(read_certificate(self.out / "tls.crt"))


@pytest.fixture
def certs(run: Run, tmp_path: Path) -> Certs:
    return Certs(run, tmp_path)


def shake_hands(certs: Certs, host: str) -> None:
    """Complete a TLS handshake with the strictest checks; raises SSLCertVerificationError."""
    client_context = ssl.create_default_context(cafile=str(certs.out / "ca.crt"))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certs.out / "tls.crt", certs.out / "tls.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_first_run(certs: Certs) -> None:
    """The first run creates a CA and a certificate that clients accept, with private keys."""
    code, out, _ = certs.dev("--host", "LLM.example.org", "--host", "10.0.0.7")

    assert code == 0
    assert certs.read_hosts() == ["llm.example.org", "10.0.0.7", *LOCAL]
    for host in ("llm.example.org", "10.0.0.7", "localhost", "::1"):
        shake_hands(certs, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(certs, "other.example.org")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in certs.out.iterdir()}
    assert modes == {"ca.crt": "0o644", "tls.crt": "0o644", "tls.key": "0o600"}
    assert oct((certs.ca / "ca.key").stat().st_mode & 0o777) == "0o600"
    root = certs.out / "ca.crt"
    assert f"  curl --cacert {root} https://llm.example.org:8443/v1/models\n" in out
    assert f"  export SSL_CERT_FILE={root} " in out


@pytest.mark.parametrize(
    ("port", "url"), [("443", "https://localhost/"), ("9443", "https://localhost:9443/")]
)
def test_port(certs: Certs, monkeypatch: pytest.MonkeyPatch, port: str, url: str) -> None:
    """The example has the port that is published; 443 is left out."""
    _, by_flag, _ = certs.dev("--port", port)
    monkeypatch.setenv("GATEWAY_TLS_PORT", port)
    _, by_variable, _ = certs.dev()

    assert f"ca.crt {url}v1/models\n" in by_flag
    assert f"ca.crt {url}v1/models\n" in by_variable


def test_later_runs(certs: Certs) -> None:
    """A certificate is kept while it is valid and its names are the same; the CA always is."""
    certs.dev()
    root, first = certs.read("ca.crt"), certs.read("tls.crt")

    _, out, _ = certs.dev()
    assert "tls.crt is still valid and is kept: localhost" in out
    assert certs.read("tls.crt") == first
    certs.dev("--renew")
    renewed = certs.read("tls.crt")
    assert renewed != first
    certs.dev("--host", "gw.local", "--any-user")
    assert certs.read_hosts() == ["gw.local", *LOCAL]
    assert (certs.out / "tls.key").stat().st_mode & 0o777 == 0o644
    (certs.out / "tls.key").write_bytes((certs.ca / "ca.key").read_bytes())
    certs.dev("--host", "gw.local")
    shake_hands(certs, "gw.local")
    assert certs.read("ca.crt") == root


def test_names_of_later_runs(certs: Certs) -> None:
    """A renewal without --host keeps the names, and one with --host replaces them."""
    certs.dev("--host", "llm.example.org")
    first = certs.read("tls.crt")

    certs.dev()
    assert certs.read("tls.crt") == first
    certs.dev("--renew")
    assert certs.read("tls.crt") != first
    assert certs.read_hosts() == ["llm.example.org", *LOCAL]
    certs.dev("--host", "gw.local")
    assert certs.read_hosts() == ["gw.local", *LOCAL]


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_foreign_files(certs: Certs, name: str) -> None:
    """Files of others are replaced with --force only, and then kept under another name."""
    certs.out.mkdir()
    (certs.out / name).write_text("mine")

    code, _, err = certs.dev()
    assert (code, certs.read(name)) == (2, b"mine")
    assert err == (
        f"maxgate: {certs.out / name}: not written by this CA, so nothing was replaced; "
        "choose another folder with --out, or replace the files with --force\n"
    )
    assert certs.dev("--force")[0] == 0
    assert certs.read(f"{name}.old") == b"mine"
    shake_hands(certs, "localhost")


def test_damaged_ca(certs: Certs) -> None:
    """A CA that has lost its key is not replaced silently, because clients trust it."""
    certs.dev()
    (certs.ca / "ca.key").unlink()

    code, _, err = certs.dev("--renew")
    assert code == 2
    assert re.search(
        r"ca\.key: the key of the CA cannot be read .*; remove .* to create a new", err
    )
    (certs.ca / "ca.key").write_bytes(certs.read("tls.key"))
    assert "ca.key is not the key of ca.crt" in certs.dev("--renew")[2]


@pytest.mark.parametrize(
    "host", ["https://a", "a:8443", "", "-a.example", "a b", "ä.example", f"{'a.' * 130}b"]
)
def test_invalid_hosts(certs: Certs, host: str) -> None:
    """A host that no certificate can have is refused before any file is written."""
    code, _, err = certs.dev("--host", host)

    assert (code, certs.ca.exists()) == (2, False)
    assert "is not a host name or address; write llm.example.org" in err


def test_missing_extra(tmp_path: Path) -> None:
    """Without cryptography, the command names the extra."""
    code = (
        f"sys.argv[1:] = ['certs', 'dev', '--out', {str(tmp_path)!r}]; "
        "from maxgate.cli.main import main; main()"
    )
    result = run_python(code)

    assert (result.returncode, result.stderr) == (
        2,
        f"maxgate: maxgate certs {format_missing('tls')}\n",
    )


@pytest.mark.parametrize("flag", ["--out", "--ca-dir"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "not a folder"),
        ("file/tls", "not a folder"),
        ("/dev/null", "not a folder"),
        ("x" * 300, "File name too long"),
    ],
)
def test_unusable_folder(certs: Certs, tmp_path: Path, flag: str, name: str, reason: str) -> None:
    """A folder that cannot be created is one line with the flag."""
    (tmp_path / "file").touch()
    path = tmp_path / name
    assert certs.dev(flag, str(path)) == (
        2,
        "",
        f"maxgate: {flag} {path}: {reason}; name another one\n",
    )


@pytest.mark.parametrize("host", ["-x", "x-", "a.-b", "10.0.0.999", "a..b", "*", "*.*.org", "a_b"])
def test_invalid_host(certs: Certs, host: str) -> None:
    """A host that no certificate can name is an error."""
    code, out, err = certs.dev(f"--host={host}")
    assert (code, out) == (2, "")
    assert err.startswith(f"maxgate: --host {host!r} is not a host name or address; write ")
