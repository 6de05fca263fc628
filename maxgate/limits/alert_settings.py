"""Settings of the alerts, and the rules for the URL that they are sent to."""

import base64
import binascii
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from maxgate.settings_section import Section

MIN_SECRET_BYTES: Final = 24
"""Length of a secret in the Standard Webhooks specification, at least."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105


class AlertSettings(Section):
    """Alerts of budgets, which are sent to a webhook."""

    webhook_url: str | None = None
    """URL that alerts are posted to: `https://...`, or `http://` on this machine."""
    webhook_secret: SecretStr | None = None
    """Secret of their signatures: `whsec_` and the base64 of 24 random bytes or more."""
    webhook_timeout: float = Field(default=10, gt=0, le=60)
    """Timeout of each attempt to send an alert."""

    @field_validator("webhook_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_webhook_url(url)
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            decode_secret(secret.get_secret_value())
        return secret

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.webhook_url is not None and self.webhook_secret is None:
            raise ValueError("webhook_url needs alerts.webhook_secret; set it too")
        for name in sorted(self.model_fields_set - {"webhook_url"}):
            if self.webhook_url is None and getattr(self, name) != self.get_default(name):
                raise ValueError(f"{name} has no effect without alerts.webhook_url; set it too")
        return self

    @classmethod
    def get_default(cls, name: str) -> object:
        """Return the default of a setting."""
        return cls.model_fields[name].default


def decode_secret(secret: str) -> bytes:
    """Return the key of the signatures; raises ValueError, without the secret."""
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(text, validate=True) if text != secret else b""
    except binascii.Error:
        key = b""
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(
            f"not {SECRET_PREFIX} and the base64 of {MIN_SECRET_BYTES} bytes or more; generate one "
            f'with `echo "{SECRET_PREFIX}$(openssl rand -base64 32)"`'
        )
    return key


def check_webhook_url(url: str) -> None:
    """Raise ValueError unless the URL is https, or http to this machine."""
    try:
        parts = urlsplit(url)
        is_valid = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid or not url.isascii() or any(not c.isprintable() or c == " " for c in url):
        raise ValueError("not a URL; write https://alerts.example.com/budgets")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("a URL with credentials or #; remove them")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise ValueError("must start with https://, or with http://127.0.0.1 for this machine")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
