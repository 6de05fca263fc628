"""All checks, in the order of the report."""

from collections.abc import Sequence
from typing import Final

from maxgate.doctor.certificates import check_certificate_files
from maxgate.doctor.consistency import (
    check_accounting,
    check_packages,
    check_sizes,
    check_timeouts,
    check_tracing,
)
from maxgate.doctor.databases import check_database, check_redis
from maxgate.doctor.engines import check_engines
from maxgate.doctor.exposure import check_engine_ports, check_exposure
from maxgate.doctor.files import (
    check_cards,
    check_keys,
    check_metrics_folder,
    check_secrets,
    check_state,
)
from maxgate.doctor.findings import Check
from maxgate.doctor.gateway import check_gateway, check_port

CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("gateway", check_gateway),
    ("listener", check_port),
    ("exposure", check_exposure),
    ("engines", check_engines),
    ("engine ports", check_engine_ports),
    ("cards", check_cards),
    ("keys", check_keys),
    ("database", check_database),
    ("redis", check_redis),
    ("accounting", check_accounting),
    ("state", check_state),
    ("secrets", check_secrets),
    ("certificates", check_certificate_files),
    ("metrics", check_metrics_folder),
    ("packages", check_packages),
    ("tracing", check_tracing),
    ("timeouts", check_timeouts),
    ("sizes", check_sizes),
)
