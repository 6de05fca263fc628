"""Run every query of the Grafana dashboards in a Prometheus that runs, and list the empty ones.

    python -m benchmarks.dashboard_queries --prometheus http://localhost:9090

The exit status is 1 if a query fails or, unless `--allow` matches its panel, returns no number.
Without Grafana, this is how to see that an installation has data for its dashboards.
"""

import argparse
import math
import re
import sys

import httpx

from tests.fakes.dashboards import FILES, Query, list_queries, list_variables, load_dashboard
from tests.fakes.prometheus_server import fill_variables


def main() -> None:
    """Print a line for each query without data, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prometheus", default="http://localhost:9090", metavar="URL")
    parser.add_argument("--window", default="5m", help="range of rates, such as 1m")
    parser.add_argument(
        "--allow", default="^$", help="pattern of DASHBOARD/PANEL that may be empty"
    )
    options = parser.parse_args()
    allowed = re.compile(options.allow)
    with httpx.Client(base_url=options.prometheus, timeout=30) as client:
        empty = find_empty(client, options.window)
    queries = list(list_queries())
    for query in empty:
        print(f"no data: {query.dashboard}/{query.panel}: {query.expression}")
    print(f"{len(queries) - len(empty)} of {len(queries)} queries have data")
    sys.exit(any(not allowed.search(f"{query.dashboard}/{query.panel}") for query in empty))


def find_empty(client: httpx.Client, window: str) -> list[Query]:
    """Return the queries without data; all variables of the dashboards match everything."""
    names = {name for file in FILES for name in list_variables(load_dashboard(file))}
    values = {**dict.fromkeys(names, ".*"), "__rate_interval": window, "__range": window}
    return [query for query in list_queries() if not has_data(client, query, values)]


def has_data(client: httpx.Client, query: Query, values: dict[str, str]) -> bool:
    """Whether the query returns at least one number; raises HTTPStatusError if it fails."""
    expression = fill_variables(query.expression, values)
    response = client.get("/api/v1/query", params={"query": expression})
    response.raise_for_status()
    samples = response.json()["data"]["result"]
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


if __name__ == "__main__":
    main()
