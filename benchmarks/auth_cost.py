"""Measure the CPU time of authentication per chat request and per chunk of a stream.

    python -m benchmarks.auth_cost [--rounds 15] [--seconds 1] [--json]

Gateways run with `auth.mode: none`, with 1,000 keys in a file, with 1,000 keys in a database
(SQLite), and with `auth.mode: jwt` and a token of a provider (ES256); all at the same time on one
core, and everything else on another one. Each round starts all of them anew and measures chat
requests at saturation, in turns, see `benchmarks.gateway.turns`; and then, one after the other in
an order that rotates, 256 streams with a chunk every 10 ms. Requests to the gateway without
authentication have no Authorization header, so its cost is included.

Shares are the median of each round's ratio to the gateway without authentication, with an interval
that contains the true median in 95 of 100 runs. Exits with 1 if keys cost more than 4 % of a chat
request, tokens more than 6 %, or either more of a chunk than noise: the interval of the share is
above 1 %. Needs wrk.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from anyio.from_thread import start_blocking_portal

from benchmarks.added_cost import BASELINE, Comparison, build_parser, measure_rounds, run_comparison
from benchmarks.admission.stack import BODY, start_maxgate
from benchmarks.gateway.gateways import MAXGATE
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.processes import choose_cores
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
COMPARISON: Final = Comparison(
    "authentication", {BASELINE: 0.0, "keys": 0.04, "database": 0.04, "jwt": 0.06}
)


def write_keys(file: Path, number: int) -> list[str]:
    """Write a file with this number of keys, each of its own project; returns the keys."""
    keys = [generate_key() for _ in range(number)]
    with file.open("w") as lines:
        lines.write("keys:\n")
        for index, key in enumerate(keys):
            digest = hash_key(key, PEPPER.encode()).hex()
            lines.write(f"- {{id: key_{index}, hash: 'hmac-sha256:{digest}', project: p{index}}}\n")
    return keys


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
            "keys": write_keys(folder / "keys.yaml", KEYS)[-1],
            "database": asyncio.run(store_keys(folder / "keys.db")),
            "jwt": sign_token(provider),
        }
        engine = stack.enter_context(run_stand_in(other_core))
        starters = {
            name: partial(run_variant, name, config, credentials[name], engine, gateway_core)
            for name, config in build_configs(folder, provider.issuer).items()
        }
        return measure_rounds(starters, bodies, rounds, seconds)


def main() -> int:
    """Measure and print a table."""
    options = build_parser(__doc__.partition("\n")[0]).parse_args()
    return run_comparison(COMPARISON, options, lambda: measure(options.rounds, options.seconds))


if __name__ == "__main__":
    sys.exit(main())
