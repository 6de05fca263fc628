"""Sending whole answers."""

from maxgate.api.body import Send


async def send_json(
    send: Send, body: bytes, *, status: int = 200, content_type: bytes = b"application/json"
) -> None:
    """Send a body that is complete."""
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
