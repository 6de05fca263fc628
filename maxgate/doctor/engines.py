"""Check every engine: reachability, version, models, prompts, metrics and clock."""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from maxgate.doctor.exposure import is_local
from maxgate.doctor.findings import Finding, Subject, compare_clocks, error, ok, warning
from maxgate.errors import ConfigurationError, GatewayError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, load_cards, suggest_tokenizer_command
from maxgate.prompts.registry import PromptFormats
from maxgate.upstream.engine_metrics import (
    InvalidMetrics,
    default_metrics_url,
    discover_metrics_url,
    parse_metrics,
)
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.replica import EngineModel
from maxgate.upstream.settings import DNS_PREFIX, ReplicaSettings

MIN_VERSION: Final = (26, 7)
"""Oldest version of MAX that the gateway is tested with."""
_FILES_PER_ENGINE: Final = 8
"""Those that the checks of an engine may have open."""
_AT_A_TIME: Final = 100
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


async def check_engines(subject: Subject) -> list[Finding]:
    """Check the engines, as many at the same time as the limit of open files allows."""
    settings = subject.settings
    if settings.engine.mode != "none" and subject.url is None:
        return [ok("maxgate serve starts MAX itself")]
    findings = list(_find_duplicates(settings.engines))
    files = subject.host.read_file_limit()
    at_a_time = asyncio.Semaphore(max(1, min(_AT_A_TIME, files // _FILES_PER_ENGINE)))

    async def check(engine: ReplicaSettings) -> list[Finding]:
        async with at_a_time:
            return await _check_item(subject, engine)

    groups = await asyncio.gather(*map(check, settings.engines))
    return findings + [finding for group in groups for finding in group]


def _find_duplicates(engines: Sequence[ReplicaSettings]) -> Iterator[Finding]:
    urls = [engine.public_url for engine in engines]
    for url in sorted({url for url in urls if urls.count(url) > 1}):
        yield error(
            "engine_listed_twice",
            f"engines lists {url} {urls.count(url)} times",
            "remove the duplicate; a share of the load is the engine's `weight`",
        )


async def _check_item(subject: Subject, engine: ReplicaSettings) -> list[Finding]:
    """Check an item of `engines`: one engine, or every address of a `dns+` name."""
    if not engine.url.startswith(DNS_PREFIX):
        return await _check_engine(subject, engine, engine.url)
    url = urlsplit(engine.url.removeprefix(DNS_PREFIX))
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.hostname, url.port or 80, type=socket.SOCK_STREAM)
    except OSError as reason:
        return [
            error(
                "engine_name_unknown",
                f"{engine.public_url}: the name has no address: {reason.strerror or reason}",
                "correct the name in `engines`, or start the service that it names",
            )
        ]
    findings = []
    for address in sorted({str(entry[4][0]) for entry in found}):
        host = f"[{address}]" if ":" in address else address
        place = url._replace(netloc=f"{host}:{url.port or 80}").geturl()
        findings += await _check_engine(subject, engine, place)
    return findings


async def _check_engine(subject: Subject, engine: ReplicaSettings, url: str) -> list[Finding]:
    settings = subject.settings
    shown = engine.public_url if url == engine.url else url
    transport = EngineTransport(settings.upstream, [engine])
    try:
        models = await list_models(transport, url, read_timeout=settings.upstream.probe_timeout)
    except (ModelListError, GatewayError) as reason:
        return [_describe_failure(shown, reason)]
    finally:
        await transport.aclose()
    findings = [*_check_plain_credentials(engine, shown)]
    version, clock = await _read_version(subject, engine, url, shown)
    is_max = any(model.software == "MAX" for model in models.values())
    findings += clock
    if not models:
        findings.append(
            error("engine_without_models", f"{shown} lists no models", "load a model there")
        )
    if is_max:
        findings += _check_version(shown, version)
        findings += await _check_metrics(subject, engine, url, shown)
    findings += _check_selection(engine, shown, models)
    findings += await _check_models(subject, shown, models)
    name = f"MAX {version}".rstrip() if is_max else "an engine other than MAX"
    served = ", ".join(sorted(models))
    return findings or [ok(f"{shown} is {name} with {served}")]


def _describe_failure(shown: str, reason: Exception) -> Finding:
    text = str(reason)
    if "credentials" in text:
        return error(
            "engine_credentials",
            f"{shown} {text}",
            "write the engine's credentials in its URL: https://user:password@host",
        )
    if "not an OpenAI-compatible" in text:
        return error(
            "engine_not_compatible",
            f"{shown}: {text}",
            "correct the URL of the engine in `engines`",
        )
    port = urlsplit(shown).port or 80
    return error(
        "engine_unreachable",
        f"{shown} is unreachable: {text}",
        f"start the engine (max serve --port {port} ...), or correct `engines`",
    )


def _check_plain_credentials(engine: ReplicaSettings, shown: str) -> Iterator[Finding]:
    url = urlsplit(engine.url)
    if url.password and url.scheme == "http" and not is_local(url.hostname or ""):
        yield warning(
            "engine_password_unencrypted",
            f"the password of {shown} crosses the network unencrypted",
            "use https:// with `ca_file`, or a private network without a password",
        )


async def _read_version(
    subject: Subject, engine: ReplicaSettings, url: str, shown: str
) -> tuple[str, list[Finding]]:
    """Return the version of MAX, "" if the engine does not tell, and a finding on its clock."""
    # Loading the system's certificates takes long.
    verify = ssl.create_default_context(cafile=engine.ca_file) if url[:5] == "https" else False
    timeout, sent_at = subject.settings.upstream.probe_timeout, subject.host.now()
    try:
        async with httpx.AsyncClient(timeout=timeout, trust_env=False, verify=verify) as client:
            response = await client.get(f"{url}/version")
    except httpx.HTTPError:
        return "", []
    clock = []
    if date := response.headers.get("date"):
        theirs = parsedate_to_datetime(date).timestamp()
        clock = compare_clocks(f"the engine {shown}", theirs, sent_at, subject.host.now())
    match = _VERSION.search(response.text) if response.status_code == 200 else None
    return ".".join(match.groups()) if match else "", clock


def _check_version(shown: str, version: str) -> Iterator[Finding]:
    if version and tuple(map(int, version.split("."))) < MIN_VERSION:
        wanted = ".".join(map(str, MIN_VERSION))
        yield warning(
            "engine_version",
            f"{shown} is MAX {version}, older than {wanted}, with which maxgate is tested",
            f"upgrade it: pip install 'modular>={wanted}'",
        )


async def _check_metrics(
    subject: Subject, engine: ReplicaSettings, url: str, shown: str
) -> list[Finding]:
    settings = subject.settings
    target = engine.metrics_url
    if settings.upstream.metrics_interval == 0:
        return []
    if target is None and settings.engine.mode != "none":
        target = default_metrics_url(url, settings.engine.metrics_port)
    if target is None and settings.upstream.discover_metrics:
        target = discover_metrics_url(url)
    if target is None:
        return []
    try:
        async with httpx.AsyncClient(
            timeout=settings.upstream.probe_timeout,
            trust_env=False,
            verify=target.startswith("https:"),
        ) as client:
            response = await client.get(target)
        parse_metrics(response.content)
    except httpx.HTTPError as failure:
        reason = str(failure) or type(failure).__name__
    except InvalidMetrics as failure:
        reason = str(failure)
    else:
        return []
    return [
        warning(
            "engine_metrics",
            f"{shown}: no metrics at {target} ({reason}), so its queue and KV cache are unknown",
            "publish the metrics port of MAX and set `metrics_url` of the engine, or set "
            "upstream.metrics_interval: 0",
        )
    ]


def _check_selection(
    engine: ReplicaSettings, shown: str, models: Mapping[str, EngineModel]
) -> Iterator[Finding]:
    for name in engine.models or ():
        if name not in models:
            yield error(
                "model_not_listed",
                f"{shown} does not have the model {name} of its `models`; it has "
                f"{', '.join(sorted(models)) or 'none'}",
                "correct `models` of the engine, or load the model there",
            )


async def _check_models(
    subject: Subject, shown: str, models: Mapping[str, EngineModel]
) -> list[Finding]:
    """Check the cards of an engine's models against the engine."""
    settings = subject.settings
    try:
        cards = load_cards(settings.cards, settings.cache_dir)
    except ConfigurationError:
        return []  # check_cards reports it
    files = ModelFiles.locate(settings.cache_dir)
    formats = PromptFormats(cards, files, require_tokenizer=settings.require_tokenizer)
    by_name = {card.served_model_name: card for card in cards}
    findings: list[Finding] = []
    for name, model in models.items():
        card = by_name.get(name)
        if card is not None:
            findings += _compare_card(card, model, shown, settings.admission.slots)
        if card is not None and card.task == "embeddings":
            if files.find_tokenizer(card.tokenizer) is None:
                findings.append(_report_tokenizer(card, is_required=True))
            continue
        problem = await formats.find_problem(name)
        if problem is None:
            continue
        is_required = settings.require_tokenizer or bool(card and card.require_tokenizer)
        build, effect = (
            (error, "requests get 503")
            if is_required
            else (warning, "the engine formats its prompts, and text of users can forge turns")
        )
        code = "model_without_card" if card is None else "tokenizer_missing"
        findings.append(build(code, f"{name}: {problem.reason}, so {effect}", problem.fix))
    return findings


def _report_tokenizer(card: ModelCard, *, is_required: bool) -> Finding:
    build = error if is_required else warning
    return build(
        "tokenizer_missing",
        f"{card.name}: its tokenizer {card.tokenizer} is not here yet, so requests get 503",
        suggest_tokenizer_command(card),
    )


def _compare_card(
    card: ModelCard, model: EngineModel, shown: str, slots: int | None
) -> Iterator[Finding]:
    if model.context_length is not None and card.context_length > model.context_length:
        yield warning(
            "context_too_long",
            f"the card {card.name} has context_length {card.context_length}, and {shown} has "
            f"{model.context_length}, so long prompts fail at the engine",
            f"start MAX with --max-length {card.context_length}, or set context_length in the card",
        )
    batch = card.max.max_batch_size if card.max is not None else None
    if slots is not None and batch is not None and slots > batch:
        yield warning(
            "slots_exceed_batch",
            f"admission.slots {slots} is above the batch size {batch} of the card {card.name}, so "
            "requests wait in MAX, where no fairness or priority applies",
            f"set admission.slots: {batch}, or raise max_batch_size in the card and MAX",
        )
