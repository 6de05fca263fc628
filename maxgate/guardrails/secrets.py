"""Detectors of secrets: API keys by the formats of their providers, private keys, and tokens."""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Final

import orjson

from maxgate.guardrails.detector import Detector, is_word_start

_KEYS: Final = (
    r"sk-mg-[0-9A-Za-z]{49}",  # maxgate
    r"sk-(?:proj-|svcacct-|admin-)?[0-9A-Za-z_-]{20,}T3BlbkFJ[0-9A-Za-z_-]{20,}",  # OpenAI
    r"sk-[0-9a-f]{32}",  # DeepSeek
    r"sk-ant-[a-z]{3,5}\d\d-[0-9A-Za-z_-]{80,}",  # Anthropic
    r"sk-or-v1-[0-9a-f]{64}",  # OpenRouter
    r"(?:AKIA|ASIA)[A-Z2-7]{16}",  # AWS
    r"aws_secret_access_key[ \t]{0,3}[=:][ \t]{0,3}[\"']?[0-9A-Za-z/+]{40}",
    r"gh[opsur]_[0-9A-Za-z]{36,}",  # GitHub
    r"github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
    r"glpat-[0-9A-Za-z_-]{20,}",  # GitLab
    r"xox[abeoprs]-[0-9A-Za-z-]{20,}",  # Slack
    r"https://hooks\.slack\.com/services/T[0-9A-Z]{6,}/B[0-9A-Z]{6,}/[0-9A-Za-z]{20,}",
    r"[rs]k_(?:live|test)_[0-9A-Za-z]{20,}",  # Stripe
    r"AIza[0-9A-Za-z_-]{35}",  # Google
    r"GOCSPX-[0-9A-Za-z_-]{28}",
    r"hf_[A-Za-z]{34}",  # Hugging Face
    r"npm_[0-9A-Za-z]{36}",
    r"pypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,}",
    r"SG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}",  # SendGrid
    r"SK[0-9a-f]{32}",  # Twilio
    r"do[opr]_v1_[0-9a-f]{64}",  # DigitalOcean
    r"gsk_[0-9A-Za-z]{52}",  # Groq
    r"pplx-[0-9A-Za-z]{48}",  # Perplexity
    r"r8_[0-9A-Za-z]{37}",  # Replicate
    r"xai-[0-9A-Za-z]{80}",
    r"dapi[0-9a-f]{32}",  # Databricks
    r"AccountKey=[0-9A-Za-z+/]{86}==",  # Azure Storage
    r"\d{8,}:AA[0-9A-Za-z_-]{33}",  # Telegram
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",  # Shopify
    r"lin_api_[0-9A-Za-z]{40}",  # Linear
    r"hvs\.[0-9A-Za-z_-]{24,}",  # Vault
)
_KEY_END: Final = r"(?:[^0-9A-Za-z_]|\z)"
_OWN_PREFIX: Final = "sk-mg-"
_DOCUMENTED: Final = "EXAMPLE"  # the end of the keys in AWS's documentation

# The body of a key in PEM, also as a string in JSON or code.
_BODY: Final = r"[0-9A-Za-z+/=\s:,\\\"'-]*"
_NAME: Final = r"(?:[0-9A-Z]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_PRIVATE_KEY: Final = rf"-----BEGIN {_NAME}(?:{_BODY}?-----END {_NAME}|{_BODY})"
_MAX_PRIVATE_KEY: Final = 10_000

_JWT: Final = (
    r"(eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{16,})(?:[^0-9A-Za-z_-]|\z)"
)
_MAX_JWT: Final = 8_000


def build_secret_detectors(is_own_key: Callable[[str], bool]) -> Iterator[Detector]:
    """Yield the detectors; `is_own_key` verifies the checksum of maxgate's keys."""

    def validate(text: str, start: int, end: int) -> int | None:
        key = text[start:end]
        if not is_word_start(text, start) or key.endswith(_DOCUMENTED):
            return None
        return end if not key.startswith(_OWN_PREFIX) or is_own_key(key) else None

    yield Detector("PRIVATE_KEY", _PRIVATE_KEY, max_length=_MAX_PRIVATE_KEY)
    yield Detector("JWT", _JWT, _validate_jwt, group=1, max_length=_MAX_JWT)
    yield Detector("API_KEY", f"({'|'.join(_KEYS)}){_KEY_END}", validate, group=1)


def _validate_jwt(text: str, start: int, end: int) -> int | None:
    header = text[start : text.index(".", start)]
    try:
        decoded = orjson.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError):
        return None
    return end if isinstance(decoded, dict) and "alg" in decoded else None
