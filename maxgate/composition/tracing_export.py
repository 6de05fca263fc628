"""The export of traces, chosen by the standard OTEL_ variables.

OpenTelemetry goes on with a default and a warning if a variable is wrong. Here, that is an error:
otherwise a typo sends every trace, or none.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from typing_extensions import override

from maxgate.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_SAMPLERS: Final = ("always_on", "always_off", "traceidratio")
_SAMPLER: Final = "OTEL_TRACES_SAMPLER"
_RATIO: Final = f"{_SAMPLER}_ARG"
# Its warnings have the value of a header, which may be a secret.
_HEADER_LOGGER: Final = "opentelemetry.util.re"


def build_exporter() -> "SpanExporter | None":
    """Build the exporter that the variables choose; raises ConfigurationError."""
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip()
    if chosen == "none":
        return None
    if chosen not in {"", "otlp"}:
        raise ConfigurationError(
            f"OTEL_TRACES_EXPORTER is {chosen}, but traces are exported by OTLP only; set otlp or "
            "none"
        )
    protocol = os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    )
    if protocol != "http/protobuf":
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, but traces are exported by http/protobuf "
            "only; set that and the collector's port for it, such as 4318"
        )
    _check_endpoint()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # an extra
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()


def _check_endpoint() -> None:
    """Raise ConfigurationError for an address of the collector that is no URL of HTTP."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        value = os.environ.get(name)
        if value is None:
            continue
        try:
            url = urlsplit(value)
            is_valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        except ValueError:  # such as a port that is no number
            is_valid = False
        if not is_valid or any(character.isspace() for character in value):
            raise ConfigurationError(
                f"{name} is {value[:100]!r}, which is not the http or https URL of a collector; "
                "write one such as http://localhost:4318, or unset the variable"
            )
        return  # the variable of traces takes precedence


def check_sampler() -> None:
    """Raise ConfigurationError for a sampler that there is not, or a share without effect."""
    chosen = os.environ.get(_SAMPLER, "parentbased_always_on")
    names = [f"{prefix}{name}" for prefix in ("parentbased_", "") for name in _SAMPLERS]
    if chosen.lower() not in names:
        raise ConfigurationError(
            f"{_SAMPLER} is {chosen[:100]!r}, which is no sampler; set one of {', '.join(names)}"
        )
    share = os.environ.get(_RATIO)
    if not chosen.lower().endswith("traceidratio"):
        if share is not None:
            raise ConfigurationError(
                f"{_RATIO} has no effect with {_SAMPLER} {chosen}; set parentbased_traceidratio, "
                f"or unset {_RATIO}"
            )
        return
    try:
        is_valid = share is not None and 0 <= float(share) <= 1
    except ValueError:
        is_valid = False
    if not is_valid:
        given = "not set" if share is None else repr(share[:100])
        raise ConfigurationError(
            f"{_RATIO} is {given}, but {_SAMPLER} {chosen} needs the share of requests to trace; "
            "set a number from 0 to 1, such as 0.1"
        )


def check_variables() -> None:
    """Raise ConfigurationError for an invalid variable; nothing is exported."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    check_sampler()
    with refuse_warnings():
        Resource.create()
        if (exporter := build_exporter()) is not None:
            BatchSpanProcessor(exporter).shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def refuse_warnings() -> Iterator[None]:
    """Raise ConfigurationError for what OpenTelemetry warns of, or refuses, during the block."""
    logger, warnings = logging.getLogger("opentelemetry"), _Warnings(logging.WARNING)
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(warnings)
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(f"an OTEL_ variable is invalid: {error}") from error
    finally:
        logger.removeHandler(warnings)
        logger.propagate = propagates
        logger.setLevel(level)
    if warnings.texts:
        raise ConfigurationError(
            f"an OTEL_ variable is invalid: {warnings.texts[0]}; correct the variable, or unset it"
        )


class _Warnings(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.texts: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        is_header = record.name == _HEADER_LOGGER
        text = "write OTEL_EXPORTER_OTLP_HEADERS as name=value" if is_header else None
        self.texts.append(text or record.getMessage().rstrip("."))
