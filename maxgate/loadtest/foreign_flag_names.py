"""Names of other load generators' flags, and what to use in their place."""

from typing import Final

RENAMED: Final = {
    "--base-url": "--url",
    "--baseurl": "--url",
    "--endpoint-url": "--url",
    "--api-base": "--url",
    "--num-prompts": "--requests",
    "--num-prompt": "--requests",
    "--num-requests": "--requests",
    "--max-requests": "--requests",
    "--request-count": "--requests",
    "--iterations": "--requests",
    "-i": "--requests",
    "--max-seconds": "--duration",
    "--max-duration": "--duration",
    "--max-benchmark-duration-s": "--duration",
    "--run-time": "--duration",
    "--time": "--duration",
    "--request-rate": "--rate",
    "--rps": "--rate",
    "--qps": "--rate",
    "--max-concurrency": "--concurrency",
    "--concurrent": "--concurrency",
    "--parallel": "--concurrency",
    "--clients": "--concurrency",
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
    "--profile-export-file": "--output",
    "--max-output-tokens": "--max-tokens",
    "--output-len": "--max-tokens",
    "--random-output-len": "--max-tokens",
    "--sharegpt-output-len": "--max-tokens",
    "--output-tokens-mean": "--max-tokens",
    "--osl": "--max-tokens",
    "--output-tokens": "--max-tokens",
    "--token": "--api-key",
    "--bearer": "--api-key",
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
    "--compare-with": "--compare",
    "--disable-stream": "--no-stream",
    "--streaming": "--stream",
    "--disable-ssl-verification": "--insecure",
    "--insecure-skip-tls-verify": "--insecure",
    "--no-verify": "--insecure",
    "-j": "--json",
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

_NO_NEED: Final = "remove the flag"
_LEVELS: Final = "use several levels, as in --concurrency 1,8,32, or --sweep"
_SAMPLING: Final = "use --body, as in --body '{\"temperature\": 0}'"
_TOKENIZER: Final = (
    "--tokenizer takes the path of a tokenizer.json; only prompts of an exact length need it"
)

EXPLAINED: Final = {
    "--dataset-name": "--scenario takes short, medium, long, mixed, or the file of a data set "
    "(ShareGPT, JSONL, a trace); " + _SYNTHETIC,
    "--data": "--scenario takes short, medium, long, mixed, or a file; " + _SYNTHETIC,
    "--random-input-len": _SYNTHETIC,
    "--input-len": _SYNTHETIC,
    "--prompt-tokens": _SYNTHETIC,
    "--synthetic-input-tokens-mean": _SYNTHETIC,
    "--input-tokens": _SYNTHETIC,
    "--isl": _SYNTHETIC,
    "--random-range-ratio": "lengths from 200 to 400 tokens need a scenario file with "
    "`requests: [{synthetic: {low: 200, high: 400}}]`",
    "--prompt": '--scenario takes a file with a line per request, as in `{"prompt": "Hello"}`',
    "--prompts": '--scenario takes a file with a line per request, as in `{"prompt": "Hello"}`',
    "--processor": _TOKENIZER,
    "--trust-remote-code": _TOKENIZER,
    "--endpoint-type": "every server is used through the OpenAI API; remove the flag",
    "--backend": "every server is used through the OpenAI API; remove the flag",
    "--endpoint": "requests go to /v1/chat/completions; remove the flag, or give another path "
    "before /v1 in --url",
    "--rate-type": "use --concurrency, --rate, --rate with --arrivals poisson, or --sweep",
    "--profile": "use --concurrency, --rate, --rate with --arrivals poisson, or --sweep",
    "--burstiness": "use --arrivals poisson",
    **dict.fromkeys(("--stage", "--spawn-rate", "--ramp-up", "--ramp-up-strategy"), _LEVELS),
    "--concurrency-range": _LEVELS,
    **dict.fromkeys(("--temperature", "--top-p", "--top-k", "--min-p", "--logprobs"), _SAMPLING),
    "-u": "use --url for the server, or --concurrency for users",
    "-t": "use --duration, --timeout or --processes",
    "-s": _LEVELS,
    "-T": "requests are JSON; remove the flag",
    "--use-beam-search": "not supported; --body '{\"n\": 4}' asks for several choices",
    "--metadata": "--output names the file of a run, and --body adds `metadata` to each request",
    "--request-interval": "an interval of 0.5 s is --rate 2",
    "--log-level": "use --details, or --quiet",
    "--config": "options are given as flags; --scenario takes the file of a workload",
    "--limit": "--requests limits the requests of each level",
    "--max-errors": "a run in which every request fails stops by itself; "
    "--target error_rate=0.1% judges the rest",
    "--max-error-rate": "use --target error_rate=0.1%",
    "--measurement-interval": "use --duration, as in --duration 10s",
    "--warmup-percent": "--warmup takes a number of requests",
    "--ignore-eos": "use --body '{\"ignore_eos\": true}'",
    "--save-result": "every run is saved; --output names the file",
    "--artifact-dir": "use --output FILE",
    "--outputs": "use --csv FILE, --json, or `maxgate report` for HTML, PNG and Markdown",
    "--output-format": "use --csv FILE, --json, or `maxgate report` for HTML, PNG and Markdown",
    "--format": "use --csv FILE, --json, or `maxgate report` for HTML, PNG and Markdown",
    "--plot-timeline": "`maxgate report FILE --png` draws the run",
    "--append-result": "every run has a file of its own; `maxgate report` shows several",
    "--verbose": "use --details",
    "-v": "use --details",
    "--latency": "every metric is measured; --details prints them",
    "--latency-correction": "with --rate, latency counts from the schedule; remove the flag",
    "--disable-keepalive": "connections are kept open, as clients do; remove the flag",
    **dict.fromkeys(("--disable-tqdm", "--headless", "--no-tui"), _NO_NEED),
    "--proxy": "requests go to --url directly; remove the flag",
    "--http2": "requests use HTTP/1.1; remove the flag",
    "--cert": "client certificates are not supported",
    "--version": "use `maxgate --version`",
    "--percentile-metrics": "every metric is measured; --details prints them",
    "--metric-percentiles": "P50 to P99.9 are measured; --details prints them",
    "--threads": "use --processes for worker processes, --concurrency for concurrent requests",
}
"""The way out for flags without a direct translation."""
