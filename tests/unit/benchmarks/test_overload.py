"""The goodput of a phase."""

from benchmarks.admission.clients import Response
from benchmarks.admission.overload import Load, Phase, measure_goodput

LOAD = Load(capacity=2.0, slo=2.0)


def test_goodput() -> None:
    """Good responses count in the phase in which they are complete, wherever they were sent."""
    before = Phase(10.0, 12.0, [good(0.5), good(2.0), good(2.5)])
    during = Phase(12.0, 14.0, [good(1.0), good(2.0), good(2.1), LATE, REFUSED])
    after = Phase(14.0, 16.0, [good(0.5)])
    phases = [before, during, after]
    assert [measure_goodput(LOAD, phase, phases) for phase in phases] == [1.0, 1.5, 1.0]


def good(ended_at: float) -> Response:
    return Response(200, 1.0, ended_at=ended_at)


LATE = Response(200, 2.5, ended_at=1.0)
REFUSED = Response(503, 0.0, retry_after=1.0, ended_at=1.0)
