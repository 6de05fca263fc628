"""Synthetic records of load tests."""

from collections.abc import Sequence
from typing import Any

from maxgate.loadtest.client.request_record import RequestRecord, build_records
from maxgate.results.records import Records


def request_record(
    index: int = 0,
    *,
    sent: float = 1.0,
    outputs: Sequence[float] = (1.5,),
    late: float = 0.0,
    **fields: Any,
) -> RequestRecord:
    """Make the record of a successful request sent at `sent`, with these fields replaced."""
    made = RequestRecord(index, stream=True, scheduled=sent - late)
    made.sent = sent
    made.first_byte = made.first_event = outputs[0] if outputs else sent
    made.outputs.extend(outputs)
    made.arrival_uncertainty.extend([0.0] * len(outputs))
    made.chunks = len(outputs)
    made.ended = outputs[-1] if outputs else sent
    made.status = 200
    made.output_tokens = len(outputs)
    made.input_tokens = 10
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def records(*request_records: RequestRecord, start: float = 0.0, worker: int = 0) -> Records:
    """Collect the records of these requests."""
    return build_records(request_records, start=start, worker=worker)


def steady(latencies: Sequence[float], *, every: float = 0.1, failed: int = 0) -> Records:
    """Make records of one request every `every` seconds; the last `failed` get an error at once."""
    made = []
    for number, latency in enumerate(latencies):
        sent = 1.0 + number * every
        first = sent + latency / 2
        made.append(request_record(number, sent=sent, outputs=(first, sent + latency)))
    for record in made[len(made) - failed :] if failed else ():
        record.error, record.status, record.chunks = "http_503", 503, 0
        record.outputs, record.arrival_uncertainty = (
            type(record.outputs)("d"),
            type(record.arrival_uncertainty)("d"),
        )
        record.ended = record.sent + 0.001
    return records(*made)
