"""Flags of other load generators, translated to those of load_test.py or explained.

The flags are those of vLLM's and SGLang's bench_serving, guidellm, genai-perf, k6, oha, hey, wrk
and Locust.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from maxgate.errors import ConfigurationError
from maxgate.net.server_url import join_host_and_port

RENAMED: Final = {
    "--base-url": "--url",
    "--baseurl": "--url",
    "--endpoint-url": "--url",
    "--num-prompts": "--requests",
    "--num-prompt": "--requests",
    "--num-requests": "--requests",
    "--max-requests": "--requests",
    "--request-count": "--requests",
    "--max-seconds": "--duration",
    "--max-duration": "--duration",
    "--run-time": "--duration",
    "--request-rate": "--rate",
    "--rps": "--rate",
    "--qps": "--rate",
    "--max-concurrency": "--concurrency",
    "--connections": "--concurrency",
    "--users": "--concurrency",
    "--vus": "--concurrency",
    "--dataset-path": "--scenario",
    "--dataset": "--scenario",
    "--input-file": "--scenario",
    "--model-name": "--model",
    "--served-model-name": "--model",
    "--output-file": "--output",
    "--output-path": "--output",
    "--result-filename": "--output",
    "--max-output-tokens": "--max-tokens",
    "--output-len": "--max-tokens",
    "--random-output-len": "--max-tokens",
    "--output-tokens": "--max-tokens",
    "--extra-request-body": "--body",
    "--extra-body": "--body",
    "--random-seed": "--seed",
    "--num-warmups": "--warmup",
    "--warmup-requests": "--warmup",
    "--num-workers": "--processes",
    "--workers": "--processes",
    "--request-timeout": "--timeout",
    "--ca-cert": "--cacert",
    "--ca-bundle": "--cacert",
    "--disable-stream": "--no-stream",
    "--streaming": "--stream",
    "--disable-ssl-verification": "--insecure",
    "--insecure-skip-tls-verify": "--insecure",
    "--no-verify": "--insecure",
    "-k": "--insecure",
    "-m": "--model",
    "-z": "--duration",
}
"""Our flag with the same meaning and the same form of value."""

_SYNTHETIC: Final = (
    "prompts of a given length need a scenario file: "
    "`echo 'requests: [{synthetic: 512}]' > s.yaml`, then --scenario s.yaml"
)

WITHOUT_VALUE: Final = frozenset(
    {
        *("--stream", "--no-stream", "--cold", "--replay", "--sweep", "--keep-going", "--insecure"),
        *("--calibrate", "--no-calibrate", "--records", "--no-records", "--details"),
        *("--quiet", "-q", "--json"),
    }
)
"""Our flags without a value, which a URL may follow."""

EXPLAINED: Final = {
    "--dataset-name": "--scenario takes short, medium, long, mixed, or the file of a data set "
    "(ShareGPT, JSONL, a trace); " + _SYNTHETIC,
    "--data": "--scenario takes short, medium, long, mixed, or a file; " + _SYNTHETIC,
    "--random-input-len": _SYNTHETIC,
    "--input-len": _SYNTHETIC,
    "--prompt-tokens": _SYNTHETIC,
    "--synthetic-input-tokens-mean": _SYNTHETIC,
    "--backend": "every server is used through the OpenAI API; remove the flag",
    "--endpoint": "requests go to /v1/chat/completions; remove the flag, or give another path "
    "before /v1 in --url",
    "--rate-type": "use --concurrency, --rate, --rate with --arrivals poisson, or --sweep",
    "--profile": "use --concurrency, --rate, --rate with --arrivals poisson, or --sweep",
    "--burstiness": "use --arrivals poisson",
    "--ignore-eos": "use --body '{\"ignore_eos\": true}'",
    "--save-result": "every run is saved; --output names the file",
    "--percentile-metrics": "every metric is measured; --details prints them",
    "--metric-percentiles": "P50 to P99.9 are measured; --details prints them",
    "--threads": "use --processes for worker processes, --concurrency for concurrent requests",
}
"""The way out for flags without a direct translation."""


def translate_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with flags of other tools replaced, and a bare URL as --url.

    Raises ConfigurationError for a flag of another tool without a translation.
    """
    if arguments and arguments[0] == "merge":
        return list(arguments)
    found = list(_translate(list(arguments)))
    return join_host_and_port(found)


def _translate(arguments: list[str]) -> Iterator[str]:
    takes_value = False
    while arguments:
        argument = arguments.pop(0)
        name, separator, value = argument.partition("=")
        if name in EXPLAINED:
            raise ConfigurationError(f"{name}: not a flag of this tool; {EXPLAINED[name]}")
        if name == "--goodput":
            values = [value] if separator else _take_values(arguments)
            yield from ("--slo", ",".join(map(_translate_objective, values)))
        elif name in {"--request-rate", "--rps", "--qps"} and _next(argument, arguments) == "inf":
            raise ConfigurationError(
                f"{name} inf: use --concurrency for as many requests as possible"
            )
        elif name == "--target" and "://" in _next(argument, arguments):
            raise ConfigurationError("--target: the server is --url; --target sets limits to judge")
        elif name in RENAMED:
            yield RENAMED[name] + separator + value
        elif not takes_value and _is_url(argument):
            yield from ("--url", argument)
        else:
            yield argument
        flag = RENAMED.get(name, name)
        takes_value = flag.startswith("-") and not separator and flag not in WITHOUT_VALUE


def _next(argument: str, arguments: Sequence[str]) -> str:
    """The value of the flag `argument`."""
    _, separator, value = argument.partition("=")
    return value if separator else next(iter(arguments), "")


def _take_values(arguments: list[str]) -> list[str]:
    values = []
    while arguments and not arguments[0].startswith("-"):
        values.append(arguments.pop(0))
    return values


def _translate_objective(text: str) -> str:
    """`ttft:500`, in milliseconds as in vLLM, as `ttft=500ms`; ours stays."""
    match = re.fullmatch(r"([a-z0-9_]+):([0-9.]+)", text)
    return text if match is None else f"{match[1]}={match[2]}ms"


def _is_url(argument: str) -> bool:
    """Whether the argument is a server: `http://...`, `localhost` or `host:port`."""
    pattern = r"https?://.+|localhost|[\w.-]+:[0-9]+(/\S*)?|\[[0-9a-fA-F:]+\](:[0-9]+)?(/\S*)?"
    return re.fullmatch(pattern, argument) is not None
