"""What is measured, as data."""

from benchmarks.gateway.latency import latency_alone, latency_at_half, mostly_idle
from benchmarks.gateway.pacing_cost import paced
from benchmarks.gateway.saturation import Measure, chat, saturate

CASES: dict[str, Measure] = {
    "chat": chat,
    "chat-stream": saturate(lambda bodies: bodies.streamed),
    "prompt-1000": saturate(lambda bodies: bodies.long),
    "prompt-8000": saturate(lambda bodies: bodies.longest),
    "history": saturate(lambda bodies: bodies.history),
    "paced": paced,
    "latency-alone": latency_alone,
    "latency-half": latency_at_half,
    "idle": mostly_idle,
    "reject-body": saturate(lambda bodies: bodies.bad, rejected=True),
    "reject-model": saturate(lambda bodies: bodies.unknown, rejected=True),
}
"""In the order of measuring; `chat` first, because others need the capacity that it finds."""
