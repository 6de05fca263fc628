"""Resolve the servers under test: their URL, credentials and model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from maxgate.errors import ConfigurationError
from maxgate.loadtest.client.address import Trust, parse_address
from maxgate.loadtest.client.client import ServerUnreachable
from maxgate.loadtest.messages import Target
from maxgate.loadtest.options import Options

_TIMEOUT: Final = 10.0

_OTHER_TASK: Final = re.compile(
    r"(?i)embed|rerank|\bbge\b|\bgte\b|\be5\b|minilm|mpnet|colbert|moderation|whisper|\btts\b|"
    r"transcri|dall-e|stable-diffusion"
)
"""Names and types of models that do not chat; no API lists the task of a model."""


def resolve_targets(options: Options) -> list[Target]:
    """The target and, if there is one, the baseline.

    Raises ServerUnreachable, and ConfigurationError for an invalid URL or certificate file, a
    missing API key, or a server without a chat model.
    """
    target = _resolve(options, options.url, "--url", options.model)
    if options.baseline is None:
        return [target]
    model = options.baseline_model or options.model
    return [target, _resolve(options, options.baseline, "--baseline", model)]


def _resolve(options: Options, url: str, flag: str, model: str | None) -> Target:
    server, headers = parse_address(url, flag)
    if options.api_key:
        headers["authorization"] = f"Bearer {options.api_key}"
    headers |= options.headers
    trust = Trust(options.cacert, options.insecure)
    if server.tls:
        trust.create_context()  # reports an invalid file, even if the model is given
    model = model or fetch_chat_model(server.url, headers, trust)
    return Target(
        url=server.url, model=model, headers=headers, cacert=trust.cacert, insecure=trust.insecure
    )


def fetch_chat_model(base: str, headers: Mapping[str, str], trust: Trust) -> str | None:
    """The first chat model of `GET /v1/models`; None if the server lists none.

    Raises ServerUnreachable, and ConfigurationError if the server requires an API key or lists
    only models for other tasks.
    """
    try:
        with httpx.Client(
            trust_env=False,
            timeout=_TIMEOUT,
            headers=dict(headers),
            verify=trust.create_context() if base.startswith("https:") else False,
        ) as client:
            response = client.get(f"{base}/v1/models")
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ServerUnreachable(f"cannot reach {base}: {reason} ({_suggest(reason)})") from error
    if response.status_code in {401, 403}:
        raise ConfigurationError(f"{base} requires an API key; set --api-key or OPENAI_API_KEY")
    try:
        models = [dict(model) for model in response.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return None
    return choose_chat_model(models, base)


def choose_chat_model(models: Sequence[Mapping[str, Any]], base: str) -> str | None:
    """The first listed model that can chat; None for an empty list.

    Raises ConfigurationError if all are for embeddings or other tasks.
    """
    names = [str(model["id"]) for model in models if "id" in model]
    others = {
        str(model["id"])
        for model in models
        if "id" in model and any(map(_OTHER_TASK.search, _list_descriptions(model)))
    }
    chat = [name for name in names if name not in others]
    if names and not chat:
        raise ConfigurationError(
            f"{base} lists no chat model, only {', '.join(names[:5])}; choose one with --model"
        )
    return chat[0] if chat else None


def _list_descriptions(model: Mapping[str, Any]) -> list[str]:
    fields = (model.get(name) for name in ("id", "type", "task", "model_type"))
    return [field for field in fields if isinstance(field, str)]


def _suggest(reason: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "--cacert FILE trusts its certificate, --insecure accepts any"
    if "SSL" in reason:
        return "the server may expect http:// instead of https://"
    return "`make run` starts a server"
