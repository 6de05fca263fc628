"""`maxgate certs`: certificates for TLS in front of the gateway."""

import os
import re
import shlex
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from maxgate.errors import ConfigurationError
from maxgate.installation import requires_extra

if TYPE_CHECKING:
    from maxgate.cli.certificates import Issuer

_DEFAULT_FOLDER: Final = Path("deploy/tls")
_DEFAULT_CA: Final = Path("~/.local/share/maxgate/dev-ca")
_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# Digits and dots only would be an address, and an invalid one.
_NAME: Final = re.compile(rf"(?![\d.]+\Z)(\*\.)?({_LABEL}\.)*{_LABEL}")


def commands() -> typer.Typer:
    """Build the group of commands."""
    app = typer.Typer(help="Create certificates for TLS.", no_args_is_help=True)
    app.callback()(lambda: None)  # keeps `dev` a command of its own
    app.command("dev")(create_dev_certificate)
    return app


def create_dev_certificate(
    out: Annotated[
        Path, typer.Option(help="Folder of tls.crt, tls.key and ca.crt.")
    ] = _DEFAULT_FOLDER,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name or address besides localhost.  [repeatable]"),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=397, help="Lifetime of the certificate.")] = 90,
    ca_dir: Annotated[Path, typer.Option(help="Folder of the CA and its key.")] = _DEFAULT_CA,
    port: Annotated[
        int,
        typer.Option(
            min=1,
            max=65_535,
            envvar="GATEWAY_TLS_PORT",
            help="Port at which clients reach nginx, to show.",
        ),
    ] = 8443,
    *,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace a certificate that is still valid.")
    ] = False,
    any_user: Annotated[
        bool,
        typer.Option("--any-user", help="Let every user read tls.key, such as a container's."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace files of others; the old ones get the suffix .old."),
    ] = False,
) -> None:
    """Create a certificate for development, and a CA for it if there is none.

    A second run keeps the certificate until a third of its lifetime is left or its names change.
    Without --host, it keeps the names.
    """
    with requires_extra("maxgate certs", "tls"):
        from maxgate.cli import certificates  # noqa: PLC0415  # an extra

        hosts = [*map(_check_host, host or ())]
        ca_dir = ca_dir.expanduser()
        _create_folder("--out", out)
        _create_folder("--ca-dir", ca_dir)
        ca = _open_ca(ca_dir)
        foreign = _find_foreign_files(out, ca)
        if foreign and not force:
            raise ConfigurationError(
                f"{', '.join(map(str, foreign))}: not written by this CA, so nothing was replaced; "
                "choose another folder with --out, or replace the files with --force"
            )
        for path in foreign:
            path.replace(f"{path}.old")
        certificate, key = out / "tls.crt", out / "tls.key"
        if not hosts and certificate.exists():
            hosts = certificates.read_hosts(certificates.read_certificate(certificate))
        hosts = list(dict.fromkeys([*hosts, *_LOCAL_HOSTS]))
        if renew or not _is_current(certificate, key, hosts):
            chain, private = certificates.issue(ca, hosts, days)
            certificates.write_file(out / "ca.crt", (ca_dir / "ca.crt").read_bytes(), 0o644)
            certificates.write_file(key, private, 0o600)
            certificates.write_file(certificate, chain, 0o644)
            state = "written"
        else:
            state = "is still valid and is kept"
        if any_user:
            key.chmod(0o644)
        end = certificates.read_certificate(certificate).not_valid_after_utc
    print(f"certificate  {certificate} {state}: {', '.join(hosts)}, until {end:%Y-%m-%d}")
    print(f"key          {key}")
    _print_trust(out / "ca.crt", hosts[0], port)


def _open_ca(folder: Path) -> "Issuer":
    """Load the CA in a folder, or create it."""
    from maxgate.cli import certificates  # noqa: PLC0415

    is_new = not (folder / "ca.crt").exists() and not (folder / "ca.key").exists()
    ca = certificates.create_ca(folder) if is_new else certificates.load_ca(folder)
    print(f"CA           {folder / 'ca.crt'} {'created' if is_new else 'exists'}")
    return ca


def _create_folder(flag: str, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"{flag} {path}: not a folder; name another one") from error
    except OSError as error:
        raise ConfigurationError(f"{flag} {path}: {error.strerror}; name another one") from error
    if not os.access(path, os.R_OK | os.X_OK):
        raise ConfigurationError(f"{flag} {path}: this user cannot read the folder; name another")


def _check_host(host: str) -> str:
    """Return a name or address in its usual form."""
    try:
        return str(ip_address(host))
    except ValueError:
        name = host.lower()
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"--host {host[:100]!r} is not a host name or address; write llm.example.org, "
            "*.example.org or 10.0.0.7, without a scheme and port"
        )
    return name


def _find_foreign_files(folder: Path, ca: "Issuer") -> list[Path]:
    """Return the files that this CA has not written."""
    from maxgate.cli import certificates  # noqa: PLC0415

    def is_own(path: Path) -> bool:
        try:
            found = certificates.read_certificate(path)
        except ConfigurationError:
            return False
        return found == ca.certificate or ca.has_issued(found)

    certificate, key, root = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
    foreign = [path for path in (certificate, root) if path.exists() and not is_own(path)]
    if key.exists() and (certificate in foreign or not certificate.exists()):
        foreign.append(key)
    return foreign


def _is_current(path: Path, key: Path, hosts: list[str]) -> bool:
    """Whether there is a certificate of these hosts with a third of its lifetime left."""
    from maxgate.cli import certificates  # noqa: PLC0415

    if not path.exists() or not certificates.is_pair(path, key):
        return False
    found = certificates.read_certificate(path)
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    is_fresh = end - datetime.now(UTC) > (end - begin) / 3
    return is_fresh and set(certificates.read_hosts(found)) == set(hosts)


def _print_trust(ca: Path, host: str, port: int) -> None:
    path = shlex.quote(str(ca.absolute()))
    url = f"https://{f'[{host}]' if ':' in host else host.replace('*.', 'www.')}"
    url += "" if port == 443 else f":{port}"
    print("\nClients trust it by one of these:\n")
    print(f"  curl --cacert {path} {url}/v1/models")
    print(f"  export SSL_CERT_FILE={path}         # OpenAI's Python SDK, httpx")
    print(f"  export NODE_EXTRA_CA_CERTS={path}   # OpenAI's SDK for Node.js")
    print("\nA running nginx reads a new certificate after: nginx -s reload")
