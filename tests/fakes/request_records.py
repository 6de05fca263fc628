"""Records of finished requests."""

from maxgate.generation.request_record import Outcome, RequestRecord, RequestSink


def finished_record(
    *,
    model: str | None = "small",
    outcome: Outcome | None = "ok",
    duration: float = 1.0,
    route: str = "/v1/x",
    engine: str | None = "http://engine",
) -> RequestRecord:
    """A stream with its first token after 0.1 s and 0.1 s per token."""
    record = RequestRecord(
        "req_1",
        "POST",
        route,
        started_at=10.0,
        status=200,
        outcome=outcome,
        model=model,
        stream=True,
        first_token_at=10.1,
        last_token_at=10.5,
        prompt_tokens=37,
        completion_tokens=5,
        cached_tokens=2,
        engine=engine,
        engine_calls=0 if engine is None else 2,
        retries=0 if engine is None else 1,
        queue_seconds=0.25,
    )
    record.finish(10.0 + duration)
    return record


def send_records(sink: RequestSink, *records: RequestRecord) -> None:
    """Start and finish a request for each record."""
    for record in records:
        sink.request_started()
        sink.request_finished(record)
