"""The base URL of an engine: for requests with its credentials, for people without them."""

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"//[^/?#]*@")


def hide_credentials(url: str) -> str:
    """Return the URL without user name and password."""
    return _CREDENTIALS.sub("//", url)
