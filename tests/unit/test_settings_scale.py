"""Rules for `swap.scale_up_time`, which several sections share."""

from pathlib import Path
from typing import Any

import pytest

from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, check_use

CARD = Path("card.yaml")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cards": [CARD], "engine": {"mode": "local"}}, "has no effect with engine.mode local"),
        ({}, "needs cards"),
        ({"cards": [CARD], "max_wait": 120}, "must be less than swap.max_wait"),
    ],
)
def test_no_effect(settings: dict[str, Any], reason: str) -> None:
    """It is an error where it has no effect, without a list of models, and if nobody waits."""
    swap = {"scale_up_time": 120, "max_wait": settings.pop("max_wait", 300)}
    with pytest.raises(ConfigurationError, match=rf"swap\.scale_up_time {reason}"):
        check_use(Settings(**settings, swap=swap))


def test_valid() -> None:
    """It is valid with cards of models that something else starts."""
    check_use(Settings(cards=[CARD], swap={"scale_up_time": 120}))
