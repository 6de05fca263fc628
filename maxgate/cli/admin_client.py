"""Requests of commands to the admin API of a running gateway."""

import os
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx
import typer

from maxgate.errors import ConfigurationError, MaxgateError
from maxgate.server.instances import find_instances, local_url
from maxgate.settings import load_settings

KEY_VARIABLE: Final = "OPENAI_ADMIN_KEY"
_NAME_URL: Final = "name its URL with --url (`engines canary`: --gateway)"
_EXAMPLE_URL: Final = "http://127.0.0.1:8000"
# The gateway waits up to 25 seconds for engines and workers.
_TIMEOUT: Final = httpx.Timeout(30, connect=5)


class AdminRequestFailed(MaxgateError):
    """The gateway could not be reached, or it refused a request of a command."""


def find_url() -> str:
    """Return the URL of the admin API: by `admin.port`, or else that of the running gateway.

    Its flags may override `server.port`, so the only one that runs with this `state_dir` will do.
    Raises ConfigurationError if there are several others, or if the port is not known.
    """
    settings = load_settings()
    admin, server, port = settings.admin, settings.server, settings.server.port
    if admin.port is not None:
        return local_url(admin.host, admin.port)
    running = [instance.port for instance in find_instances(settings.state_dir)]
    if running and port not in running:
        if len(running) > 1:
            raise ConfigurationError(
                f"gateways run on the ports {', '.join(map(str, running))}, and none on "
                f"server.port {port}; {_NAME_URL}"
            )
        [port] = running
    if port == 0:
        raise ConfigurationError(
            "setting server.port is 0, so the port is chosen when the gateway starts, and none "
            f"runs in {settings.state_dir}; {_NAME_URL}"
        )
    return local_url(server.host, port)


_DEFAULT: Final = "that of the settings"
UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        help="URL of the gateway, on this machine.",
        metavar="URL",
        default_factory=find_url,
        show_default=_DEFAULT,
    ),
]
GatewayOption = Annotated[
    str,
    typer.Option(
        help="URL of the gateway, on this machine.",
        metavar="URL",
        default_factory=find_url,
        show_default=_DEFAULT,
    ),
]


def request(method: str, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to the admin API and return the JSON of the response.

    A key in OPENAI_ADMIN_KEY, the variable of OpenAI's SDKs, authenticates it.

    Raises AdminRequestFailed.
    """
    base = url.rstrip("/").removesuffix("/v1")
    if urlsplit(base).scheme not in {"http", "https"} or not urlsplit(base).hostname:
        raise typer.BadParameter(f"{url!r} is not a URL; write {_EXAMPLE_URL}", param_hint="--url")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    headers = {"authorization": f"Bearer {key}"} if key and key.isascii() else {}
    try:
        # Variables such as HTTP_PROXY would send the request through a proxy, which may not.
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            response = client.request(method, f"{base}/admin/{path}", json=body, headers=headers)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise AdminRequestFailed(
            f"no gateway runs at {base}; start it with `maxgate serve`, or name its URL with --url"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = str(error) or type(error).__name__
        raise AdminRequestFailed(f"the gateway at {base} did not respond: {reason}") from error
    return read_response(response, base)


def read_response(response: httpx.Response, base: str) -> Any:
    """Return the JSON of a response; raises AdminRequestFailed with the message of an error."""
    try:
        content = response.json()
    except ValueError:
        content = None
    if response.is_success and isinstance(content, dict):
        return content
    if response.status_code == 401:
        raise AdminRequestFailed(
            f"the gateway at {base} needs a key of an admin in the variable {KEY_VARIABLE}; "
            "`maxgate keys create --admin` creates one"
        )
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if response.status_code == 404 and (message is None or message.startswith("Unknown path")):
        raise AdminRequestFailed(f"{base} has no admin API; it is not this version of maxgate")
    if not isinstance(message, str):
        raise AdminRequestFailed(f"{base} responded with status {response.status_code}")
    raise AdminRequestFailed(message.rstrip("."))
