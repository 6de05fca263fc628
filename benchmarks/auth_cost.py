"""Measure the CPU time of authentication per chat request and per chunk of a stream.

    python -m benchmarks.auth_cost [--rounds 15] [--seconds 1] [--json]

Gateways run with `auth.mode: none`, with 1,000 keys in a file, with 1,000 keys in a database
(SQLite), and with `auth.mode: jwt` and a token of a provider (ES256); all at the same time on one
core, and everything else on another one; only one is under load. Each round measures all, in an
order that rotates: chat requests at saturation, and 256 streams with a chunk every 10 ms. Requests
to the gateway without authentication have no Authorization header, so its cost is included.

Shares are the median of each round's ratio to the gateway without authentication, with an interval
that contains the true median in 95 of 100 runs. Exits with 1 if keys cost more than 4 % of a chat
request, tokens more than 6 %, or either more of a chunk than noise: the interval of the share is
above 1 %. Needs wrk.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from anyio.from_thread import start_blocking_portal

from benchmarks.admission.cost import CASES, find_interval, measure_rounds
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores, exit_on_sigterm
from benchmarks.gateway.prompts import Bodies, load_token_counter
from benchmarks.gateway.results import Results
from benchmarks.gateway.stack import RunningGateway, run_gateway, run_stand_in
from maxgate.auth.api_key import generate_key, hash_key
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.oidc_provider import OidcProvider
from tests.fakes.server import serving
from tests.fakes.stored_keys import StoredKeys

KEYS: Final = 1000
PEPPER: Final = "0123456789abcdef" * 4
AUDIENCE: Final = "maxgate"
TOKEN_SECONDS: Final = 86_400
MAX_CHUNK_SHARE: Final = 0.01
BASELINE: Final = "none"
MAX_REQUEST_SHARES: Final = {BASELINE: 0.0, "keys": 0.04, "database": 0.04, "jwt": 0.06}
VARIANTS: Final = tuple(MAX_REQUEST_SHARES)


@dataclass(frozen=True)
class Cost:
    """The CPU time of a request or chunk in µs, and the share that a variant adds."""

    variant: str
    case: str
    cpu_us: float
    share: float
    low: float
    high: float

    @property
    def is_right(self) -> bool:
        """Whether the bound is kept."""
        if self.case == "request":
            return self.share <= MAX_REQUEST_SHARES[self.variant]
        return self.low <= MAX_CHUNK_SHARE


def write_keys(file: Path) -> str:
    """Write a file with many keys, and return one of them."""
    key = ""
    with file.open("w") as lines:
        lines.write("keys:\n")
        for number in range(KEYS):
            key = generate_key()
            digest = hash_key(key, PEPPER.encode()).hex()
            lines.write(
                f"- {{id: key_{number}, hash: 'hmac-sha256:{digest}', project: p{number}}}\n"
            )
    return key


async def store_keys(file: Path) -> str:
    """Write a database with many keys, and return one of them."""
    key = ""
    async with aclosing(
        open_identity_store(DatabaseSettings(url=f"sqlite:///{file}"), Path())
    ) as store:
        stored = StoredKeys(store, pepper=PEPPER)
        for number in range(KEYS):
            key = await stored.add(f"key_{number}")
    return key


@contextmanager
def run_provider() -> Iterator[OidcProvider]:
    """Run an identity provider in a thread of this process."""
    provider = OidcProvider()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(provider)) as provider.issuer,
    ):
        yield provider


def sign_token(provider: OidcProvider) -> str:
    """Sign a token that is valid for the whole run."""
    expires_at = int(time.time()) + TOKEN_SECONDS
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "user-1", "exp": expires_at}
    return provider.sign(claims)


def build_configs(folder: Path, issuer: str) -> Mapping[str, Mapping[str, object]]:
    """Build the configuration of each variant; the folder has the keys."""
    keys = {"mode": "keys", "pepper": [PEPPER]}
    jwt = {"issuer": issuer, "audiences": [AUDIENCE], "algorithms": ["ES256"]}
    file = str(folder / "keys.yaml")
    return {
        BASELINE: {"auth": {"mode": "none"}},
        "keys": {"auth": {**keys, "keys_file": file}, "database": {"url": "none"}},
        "database": {"auth": keys, "database": {"url": f"sqlite:///{folder / 'keys.db'}"}},
        "jwt": {"auth": {"mode": "jwt"}, "jwt": jwt},
    }


@contextmanager
def run_variant(
    variant: str, config: Mapping[str, object], credential: str, engine: StandIn, core: int
) -> Iterator[RunningGateway]:
    """Run a gateway on a core, for requests with this credential, if any."""
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    gateway = replace(
        MAXGATE,
        name=f"maxgate, auth {variant}",
        command=partial(start_maxgate, has_metrics=False, **config),
        headers=lambda _: headers,
    )
    with run_gateway(gateway, engine, BODY, core) as running:
        yield running


def measure(rounds: int, seconds: float) -> Results:
    """Measure all rounds; raises CaseFailed."""
    gateway_core, other_core = choose_cores()
    bodies = Bodies.build(load_token_counter())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        provider = stack.enter_context(run_provider())
        credentials = {
            BASELINE: "",
            "keys": write_keys(folder / "keys.yaml"),
            "database": asyncio.run(store_keys(folder / "keys.db")),
            "jwt": sign_token(provider),
        }
        engine = stack.enter_context(run_stand_in(other_core))
        gateways = {
            name: stack.enter_context(
                run_variant(name, config, credentials[name], engine, gateway_core)
            )
            for name, config in build_configs(folder, provider.issuer).items()
        }
        return measure_rounds(gateways, bodies, rounds, seconds)


def summarize(results: Results) -> list[Cost]:
    """Return the cost of each variant."""
    costs = []
    for variant in VARIANTS:
        for case in CASES:
            own = [value or 0.0 for value in results.values(variant, case, "cpu_us")]
            base = [value or 0.0 for value in results.values(BASELINE, case, "cpu_us")]
            shares = [a / b - 1 for a, b in zip(own, base, strict=True)]
            share, cpu_us = statistics.median(shares), statistics.median(own)
            costs.append(Cost(variant, case, cpu_us, share, *find_interval(shares)))
    return costs


def format_table(costs: Sequence[Cost]) -> str:
    """Format the costs as a Markdown table."""
    lines = ["| authentication | of a | CPU | more | 95 % interval |", "|---|---|--:|--:|--:|"]
    for c in costs:
        more = [f"{c.share:+.1%}", f"{c.low:+.1%} to {c.high:+.1%}"]
        cells = [
            c.variant,
            c.case,
            f"{c.cpu_us:.1f} µs",
            *(more if c.variant != BASELINE else "--"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds (default: 15)")
    parser.add_argument(
        "--seconds", type=float, default=1, help="seconds per measurement (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    exit_on_sigterm()
    try:
        costs = summarize(measure(options.rounds, options.seconds))
    except CaseFailed as reason:
        raise SystemExit(f"a gateway failed: {reason}") from None
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
    else:
        print(format_table(costs))
    return 0 if all(cost.is_right for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
