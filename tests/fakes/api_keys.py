"""A folder with a file of API keys and its pepper, as `maxgate keys` writes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maxgate.auth.api_key import generate_key, hash_key
from maxgate.auth.key_file import HASH_PREFIX, KeyEntry
from maxgate.auth.key_file_changes import add_entry, disable_entry

PEPPER: Final = "0123456789abcdef" * 4


@dataclass(frozen=True)
class KeyFolder:
    """The keys of a gateway; `settings` are those that make it use them."""

    path: Path

    @property
    def file(self) -> Path:
        """The file with the keys."""
        return self.path / "keys.yaml"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a gateway that asks for these keys."""
        self.file.touch()
        return {
            "auth": {"mode": "keys", "keys_file": self.file, "pepper": [PEPPER]},
            "database": {"url": "none"},
        }

    def add(self, key_id: str = "key_1", *, pepper: str = PEPPER, **fields: Any) -> str:
        """Add a key with these fields, and return it."""
        key = generate_key()
        digest = HASH_PREFIX + hash_key(key, pepper.encode()).hex()
        add_entry(self.file, KeyEntry(id=key_id, hash=digest, **fields))
        return key

    def disable(self, key_id: str = "key_1") -> None:
        """Revoke a key."""
        disable_entry(self.file, key_id)


def bearer(key: str) -> dict[str, str]:
    """Return the header that OpenAI's SDKs send."""
    return {"authorization": f"Bearer {key}"}
