"""Serve the web pages: Swagger UI, with headers that limit what browsers do with it."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from maxgate.api.proxies import TrustedProxies

DOCS_URL: Final = "/docs"
ASSETS_URL: Final = "/docs/assets"

_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
# Swagger UI sets style attributes and has images in data URLs. It must not load anything else, and
# sends requests to the gateway only.
_POLICY: Final = (
    "default-src 'none'; script-src 'self' %s; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class Assets(StaticFiles):
    """The files of Swagger UI, from an installed package, so that it works without internet."""

    def __init__(self, proxies: TrustedProxies) -> None:
        super().__init__(directory=str(files("fastapi_offline") / "static"))
        self._proxies = proxies

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *build_headers(scope, self._proxies)]
                message = {**message, "headers": headers}
            await send(message)

        await super().__call__(scope, receive, send_with_headers)


def build_headers(scope: Scope, proxies: TrustedProxies) -> list[tuple[bytes, bytes]]:
    """Return the headers of every page; browsers keep to https if the request came by it."""
    return [*_HEADERS, *([_HSTS] if proxies.is_https(scope) else [])]


def render_docs(
    request: Request, title: str, openapi_url: str | None, proxies: TrustedProxies
) -> HTMLResponse:
    """Return the response with Swagger UI, whose only inline script is allowed by its hash."""
    root = request.scope.get("root_path", "").rstrip("/")
    page: HTMLResponse = get_swagger_ui_html(
        openapi_url=f"{root}{openapi_url}",
        title=title,
        swagger_js_url=f"{root}{ASSETS_URL}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{ASSETS_URL}/swagger-ui.css",
        swagger_favicon_url=f"{root}{ASSETS_URL}/favicon.png",
    )
    hashes = [
        base64.b64encode(hashlib.sha256(script).digest()).decode()
        for script in _INLINE_SCRIPT.findall(bytes(page.body))
    ]
    policy = _POLICY % " ".join(f"'sha256-{value}'" for value in hashes)
    page.raw_headers += [
        (b"content-security-policy", policy.encode()),
        *build_headers(request.scope, proxies),
    ]
    return page
