"""Flags of other load generators, translated to those of load_test.py or explained.

The flags are those of vLLM's and SGLang's bench_serving, guidellm, genai-perf, k6, oha, hey, wrk
and Locust.
"""

import re
from collections.abc import Iterator, Sequence

from maxgate.errors import ConfigurationError
from maxgate.loadtest.foreign_flag_names import EXPLAINED, RENAMED, WITHOUT_VALUE
from maxgate.net.server_url import join_host_and_port


def translate_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with flags of other tools replaced, and a bare URL as --url.

    Raises ConfigurationError for a flag of another tool without a translation.
    """
    if arguments and arguments[0] == "merge":
        return list(arguments)
    found = list(_translate(_drop_infinite_rate(list(arguments))))
    return join_host_and_port(found)


def _drop_infinite_rate(arguments: list[str]) -> list[str]:
    """Without `--request-rate inf`, which says the same as the concurrency that is given too."""
    names = [_name_flag(argument) for argument in arguments]
    if not {"--concurrency", "-c"} & {*names}:
        return arguments
    kept = []
    while arguments:
        argument = arguments.pop(0)
        if _name_flag(argument) in {"--rate", "-r"}:
            _, separator, value = argument.partition("=")
            if (value if separator else next(iter(arguments), "")) == "inf":
                del arguments[: 0 if separator else 1]
                continue
        kept.append(argument)
    return kept


def _name_flag(argument: str) -> str:
    """Our name of the flag, without its value."""
    name = argument.partition("=")[0]
    if name.startswith("--"):
        name = name.replace("_", "-")
    return RENAMED.get(name, name)


def _translate(arguments: list[str]) -> Iterator[str]:
    takes_value = False
    while arguments:
        argument = arguments.pop(0)
        name, separator, value = argument.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        _refuse(name, value if separator else next(iter(arguments), ""))
        if name == "--goodput":
            values = [value] if separator else _take_values(arguments)
            yield from ("--slo", ",".join(map(_translate_objective, values)))
        elif name.startswith("-"):
            yield RENAMED.get(name, name) + separator + value
        elif takes_value:
            yield argument
        else:
            yield from ("--url", _check_url(argument))
        flag = RENAMED.get(name, name)
        takes_value = flag.startswith("-") and not separator and flag not in WITHOUT_VALUE


def _refuse(name: str, value: str) -> None:
    """Raise ConfigurationError for a flag, or a value of it, that another tool has and we lack."""
    if name in EXPLAINED:
        raise ConfigurationError(f"{name}: not a flag of this tool; {EXPLAINED[name]}")
    if RENAMED.get(name, name) in {"--rate", "-r"} and value == "inf":
        raise ConfigurationError(f"{name} inf: use --concurrency for as many requests as possible")
    if name == "--target" and "://" in value:
        raise ConfigurationError("--target: the server is --url; --target sets limits to judge")
    if name == "-q" and value.replace(".", "").isdecimal():
        raise ConfigurationError(f"-q {value}: -q means --quiet here; use --rate {value}")


def _take_values(arguments: list[str]) -> list[str]:
    values = []
    while arguments and not arguments[0].startswith("-"):
        values.append(arguments.pop(0))
    return values


def _translate_objective(text: str) -> str:
    """`ttft:500`, in milliseconds as in vLLM, as `ttft=500ms`; ours stays."""
    match = re.fullmatch(r"([a-z0-9_]+):([0-9.]+)", text)
    return text if match is None else f"{match[1]}={match[2]}ms"


def _check_url(argument: str) -> str:
    """The argument if it is a server: `http://...`, `localhost` or `host:port`.

    Raises ConfigurationError.
    """
    pattern = r"https?://.+|localhost|[\w.-]+:[0-9]+(/\S*)?|\[[0-9a-fA-F:]+\](:[0-9]+)?(/\S*)?"
    if re.fullmatch(pattern, argument) is None:
        raise ConfigurationError(
            f"{argument[:80]}: not a URL; a server is given as http://host:port, requests as "
            "--scenario FILE, and the shards of a run as `merge FILE...`"
        )
    return argument
