"""The `max serve` command line for a model card.

Flags are those of `max serve --help` in MAX 26.7.
"""

import json
from typing import Final

from maxgate.engine.prepared_model import PreparedModel
from maxgate.model_cards.card import ModelCard

# MAX returns no logprobs of tokens that its prefix cache holds.
_PROMPT_LOGPROBS: Final = ("--enable-echo", "--no-enable-prefix-caching")
# Only OpenAI's routes: the SageMaker ones would bypass the gateway.
_API_TYPES: Final = json.dumps(["openai"])


def build_arguments(
    card: ModelCard, *, model: str, prepared: PreparedModel | None, host: str, port: int
) -> list[str]:
    """Build the arguments of `max`.

    `model` is a directory or a Hugging Face repository. The encoding and weights of `prepared`
    override those of the card, because `maxgate models prepare` may have chosen others.
    """
    settings = card.require_max()
    encoding = prepared.encoding if prepared else settings.encoding
    weight_path = prepared.weight_path if prepared else settings.weight_path
    flags: list[tuple[str, object]] = [
        ("--model", model),
        ("--served-model-name", card.served_model_name),
        ("--weight-path", weight_path),
        ("--quantization-encoding", encoding),
        ("--devices", settings.devices),
        ("--max-length", card.context_length),
        ("--max-batch-size", settings.max_batch_size),
        ("--host", host),
        ("--port", port),
    ]
    pairs = [[flag, str(value)] for flag, value in flags if value is not None]
    switches = _PROMPT_LOGPROBS if card.prompt_logprobs else ()
    return ["serve", *(word for pair in pairs for word in pair), *switches, *settings.extra_flags]


def build_environment(
    *, metrics_port: int, telemetry: bool, json_logs: bool = False
) -> dict[str, str]:
    """Build MAX's environment variables.

    `OTEL_SDK_DISABLED` stops MAX from sending usage data to Modular. Unlike
    `MAX_SERVE_DISABLE_TELEMETRY`, it keeps the local metrics.
    """
    logs = {"MODULAR_STRUCTURED_LOGGING": "1"} if json_logs else {}
    return {
        **logs,
        "MAX_SERVE_API_TYPES": _API_TYPES,
        "MAX_SERVE_METRICS_ENDPOINT_PORT": str(metrics_port),
        "OTEL_SDK_DISABLED": "false" if telemetry else "true",
    }
