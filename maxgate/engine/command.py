"""The `max serve` command line for a model card.

Flags are those of `max serve --help` in MAX 26.7.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from maxgate.model_cards.card import ModelCard

_PROVENANCE: Final = "maxgate.json"
# MAX returns no logprobs of tokens that its prefix cache holds.
_PROMPT_LOGPROBS: Final = ("--enable-echo", "--no-enable-prefix-caching")
# Only OpenAI's routes: the SageMaker ones would bypass the gateway.
_API_TYPES: Final = json.dumps(["openai"])


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A directory for `max serve --model`, with the flags that go with it."""

    directory: Path
    encoding: str
    weight_path: Path | None

    def relocate(self, directory: Path) -> Self:
        """Return the same model at another path, such as a container's mount point."""
        weight = self.weight_path
        return type(self)(directory, self.encoding, weight and directory / weight.name)


def write_prepared(directory: Path, *, source: str, encoding: str, weight_file: str | None) -> None:
    """Write the file that `read_prepared` reads."""
    facts = {"source": source, "encoding": encoding, "weight_file": weight_file}
    (directory / _PROVENANCE).write_text(json.dumps(facts, indent=2))


def read_prepared(directory: Path) -> PreparedModel | None:
    """Read a directory written by `maxgate models prepare`; None for any other directory."""
    try:
        facts = json.loads((directory / _PROVENANCE).read_text())
    except (OSError, ValueError):
        return None
    weight = facts.get("weight_file")
    return PreparedModel(
        directory=directory,
        encoding=facts["encoding"],
        weight_path=None if weight is None else directory / weight,
    )


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


def build_environment(*, metrics_port: int, telemetry: bool) -> dict[str, str]:
    """Build MAX's environment variables.

    `OTEL_SDK_DISABLED` stops MAX from sending usage data to Modular. Unlike
    `MAX_SERVE_DISABLE_TELEMETRY`, it keeps the local metrics.
    """
    return {
        "MAX_SERVE_API_TYPES": _API_TYPES,
        "MAX_SERVE_METRICS_ENDPOINT_PORT": str(metrics_port),
        "OTEL_SDK_DISABLED": "false" if telemetry else "true",
    }
