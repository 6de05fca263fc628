"""The exact `max serve` command line of a card.

Flags are those of `max serve --help` in MAX 26.7.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from maxgate.model_cards.card import ModelCard

_PROVENANCE = "maxgate.json"


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A directory for `max serve --model`, and what else its command line needs."""

    directory: Path
    encoding: str
    weight_path: Path | None

    def moved_to(self, directory: Path) -> Self:
        """The same files, seen from a container that has them elsewhere."""
        weight = self.weight_path
        return type(self)(directory, self.encoding, weight and directory / weight.name)


def write_prepared(directory: Path, *, source: str, encoding: str, weight_file: str | None) -> None:
    """Leave in the directory what `read_prepared` finds there."""
    facts = {"source": source, "encoding": encoding, "weight_file": weight_file}
    (directory / _PROVENANCE).write_text(json.dumps(facts, indent=2))


def read_prepared(directory: Path) -> PreparedModel | None:
    """What an earlier `prepare_model` left in the directory, or None where it left nothing."""
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


# Only OpenAI's routes; the SageMaker ones would answer without the gateway.
_API_TYPES: Final = json.dumps(["openai"])


def serve_arguments(
    card: ModelCard, *, model: str, prepared: PreparedModel | None, host: str, port: int
) -> list[str]:
    """What follows `max`.

    `model` is a directory or a Hugging Face repository; `prepared` is what is known of a directory
    that `maxgate models prepare` wrote, and wins over the card, which was written before it.
    """
    encoding = prepared.encoding if prepared else card.max.encoding
    weight_path = prepared.weight_path if prepared else card.max.weight_path
    flags: list[tuple[str, object]] = [
        ("--model", model),
        ("--served-model-name", card.served_model_name),
        ("--weight-path", weight_path),
        ("--quantization-encoding", encoding),
        ("--devices", card.max.devices),
        ("--max-length", card.context_length),
        ("--max-batch-size", card.max.max_batch_size),
        ("--host", host),
        ("--port", port),
    ]
    given = [[flag, str(value)] for flag, value in flags if value is not None]
    return ["serve", *(word for pair in given for word in pair), *card.max.extra_flags]


def engine_environment(*, metrics_port: int, telemetry: bool) -> dict[str, str]:
    """What MAX reads from its environment.

    `OTEL_SDK_DISABLED` stops MAX from sending usage to its maker; unlike
    `MAX_SERVE_DISABLE_TELEMETRY` it keeps the local metrics.
    """
    return {
        "MAX_SERVE_API_TYPES": _API_TYPES,
        "MAX_SERVE_METRICS_ENDPOINT_PORT": str(metrics_port),
        "OTEL_SDK_DISABLED": "false" if telemetry else "true",
    }


def is_repository(reference: str) -> bool:
    """Whether a card's `model_path` can be a Hugging Face repository: `owner/name`."""
    owner, _, name = reference.partition("/")
    return bool(owner and name) and "/" not in name and not Path(reference).is_absolute()
