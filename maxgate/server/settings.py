from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from maxgate.settings_section import Section, split_list

_Names = Annotated[list[str], NoDecode, BeforeValidator(split_list)]


class ServerSettings(Section):
    """Settings of the HTTP server; times in seconds."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` listens on all interfaces."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on."""
    workers: int = Field(default=1, ge=1, le=256)
    """Number of worker processes that share the port."""
    allowed_hosts: _Names = Field(default=["localhost", "*.localhost"])
    """Domain names in the Host header that are accepted on loopback addresses; `*` is any."""
    cors_origins: _Names = Field(default=[])
    """Origins of web pages that may use the API, such as `https://chat.example.org`; `*` is any."""
    trusted_proxies: _Names = Field(default=[])
    """Addresses and networks of proxies whose forwarding headers count, such as `10.0.0.0/8`."""
    max_body_bytes: int = Field(default=10_000_000, ge=1000)
    """Maximum size of a request body; larger ones are rejected with 413."""
    request_read_timeout: float = Field(default=30, gt=0)
    """Timeout for receiving a request, headers and body."""
    write_timeout: float = Field(default=60, gt=0)
    """Seconds before a client that does not read its response is disconnected."""
    keep_alive_timeout: int = Field(default=75, ge=1)
    """Seconds before an idle client connection is closed; clients should close theirs earlier."""
    keep_alive_interval: float = Field(default=15, gt=0)
    """Seconds of silence in a stream before a keep-alive comment is sent."""
    shutdown_timeout: int = Field(default=30, ge=0)
    """Seconds that running requests have to finish when the gateway stops."""

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(
                    f"{network[:50]!r} is not an address or network; write 10.0.0.1 or 10.0.0.0/8"
                ) from None
        return networks


class AdminSettings(Section):
    """A listener of its own for the admin API, which is then served nowhere else."""

    host: str = "127.0.0.1"
    """Address of the listener for the admin API."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the listener for the admin API; by default that of everything else."""

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.port is None and "host" in self.model_fields_set:
            raise ValueError("host has no effect without admin.port; set it too")
        return self
