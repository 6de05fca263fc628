"""Errors of guardrails; none quotes the text."""

from maxgate.errors import InvalidRequest, UpstreamUnavailable


class ContentBlocked(InvalidRequest):
    """A rule refuses a text of the request; `param` is the path of its field."""

    default_code = "content_filter"

    def __init__(self, rule: str, found: str, *, param: str) -> None:
        super().__init__(
            f"The guardrail {rule!r} refuses this request: {param} {found}. Remove it.", param=param
        )
        self.rule = rule


class UncheckedPrompt(InvalidRequest):
    """Rules apply to the request, and its token ids cannot be checked."""

    default_code = "unsupported_value"

    def __init__(self, param: str) -> None:
        super().__init__(
            f"Invalid value for '{param}': guardrails apply here, and they check texts only. Send "
            "a text instead of token ids.",
            param=param,
        )


class GuardrailUnavailable(UpstreamUnavailable):
    """A rule that is `closed` on failure got no verdict."""

    default_code = "guardrail_unavailable"

    def __init__(self, rule: str) -> None:
        super().__init__(
            f"The guardrail {rule!r} could not check the text, so it is refused. Retry later.",
            retry_after=2,
        )
