from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from maxgate.settings_section import Section, split_list

MIN_PEPPER_LENGTH: Final = 32
"""Characters, also those of `metrics_key`; a generated one has 64."""

AuthMode = Literal["none", "keys", "jwt", "keys+jwt"]

_KEY_MODES: Final = ("keys", "keys+jwt")
_JWT_MODES: Final = ("jwt", "keys+jwt")
# Settings of API keys only; the others are for every kind of credential.
_OF_KEYS: Final = frozenset({"keys_file", "pepper", "pepper_file"})


class AuthSettings(Section):
    """Authentication of clients."""

    mode: AuthMode | None = None
    """Credentials: `keys`, `jwt`, `keys+jwt` or `none`; by default, only this machine is served."""
    keys_file: Path | None = None
    """File with the API keys; by default `state_dir/keys.yaml`, which `maxgate keys` writes."""
    pepper: Annotated[list[SecretStr], NoDecode, BeforeValidator(split_list)] = Field(default=[])
    """Secrets for the hashes of keys: the first signs, all verify; comma-separated in variables."""
    pepper_file: Path | None = None
    """File with these secrets, one per line; by default `state_dir/pepper`, which is generated."""
    open_metrics: bool = False
    """Serve `/metrics`, `/metrics/vllm` and `/health` without a credential."""
    metrics_key: SecretStr | None = None
    """Credential of Prometheus for these paths only: it reads all metrics, costs included."""
    open_docs: bool = False
    """Serve `/docs` and `/openapi.json` without a credential."""
    max_failures: int = Field(default=30, ge=1, le=1_000_000)
    """Failed authentications a minute, per worker and client address, before they get 429."""

    @property
    def has_keys(self) -> bool:
        """Whether clients authenticate by API keys."""
        return self.mode in _KEY_MODES

    @property
    def has_jwt(self) -> bool:
        """Whether clients authenticate by JSON Web Tokens."""
        return self.mode in _JWT_MODES

    def find_key_file(self, state_dir: Path) -> Path:
        """Return the path of the file with the keys."""
        return (self.keys_file or state_dir / "keys.yaml").expanduser()

    @field_validator("pepper")
    @classmethod
    def _check_pepper(cls, peppers: list[SecretStr]) -> list[SecretStr]:
        for pepper in peppers:
            check_pepper(pepper.get_secret_value())
        return peppers

    @field_validator("metrics_key")
    @classmethod
    def _check_metrics_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            value = key.get_secret_value()
            check_pepper(value)
            if not (value.isascii() and value.isprintable() and " " not in value):
                raise ValueError(
                    "has characters that no header can hold; generate one with "
                    "`openssl rand -hex 32`"
                )
        return key

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        for name in sorted(self.model_fields_set - {"mode"}):
            if getattr(self, name) == type(self).model_fields[name].default:
                continue
            if self.mode in {None, "none"} or (name in _OF_KEYS and not self.has_keys):
                raise ValueError(f"{name} has no effect without auth.mode keys; set it too")
        if self.pepper and self.pepper_file is not None:
            raise ValueError("both pepper and pepper_file are set; remove one")
        return self


def check_pepper(pepper: str) -> None:
    """Raise ValueError, without the value, for a pepper that could be guessed."""
    if len(pepper) < MIN_PEPPER_LENGTH:
        raise ValueError(
            f"shorter than {MIN_PEPPER_LENGTH} characters; generate one with `openssl rand -hex 32`"
        )
