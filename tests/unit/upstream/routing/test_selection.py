"""The settings select the policy of each model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.settings import load_settings
from maxgate.upstream.routing.affinity import SessionAffinity
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey
from maxgate.upstream.routing.prefix_affinity import PrefixAffinity
from maxgate.upstream.routing.selection import build_policy
from maxgate.upstream.settings import RoutingSettings
from tests.unit.upstream.routing.test_affinity import create_replicas


def test_policies() -> None:
    """Each name has its policy; the default one goes by load."""
    names = ("least_loaded", "prefix_affinity", "session")
    assert [type(build_policy(RoutingSettings(policy=name))) for name in names] == [
        LeastLoaded,
        PrefixAffinity,
        SessionAffinity,
    ]
    assert type(build_policy(RoutingSettings())) is LeastLoaded


def test_models() -> None:
    """A model may have a policy of its own."""
    policy = build_policy(RoutingSettings(models={"chatty": "session"}))
    replicas = create_replicas(2)
    chosen = {
        model: {policy.choose(replicas, RoutingKey(model, session="me")).url for _ in range(4)}
        for model in ("chatty", "other")
    }
    assert (len(chosen["chatty"]), len(chosen["other"])) == (1, 2)


def test_sources(set_value: Callable[[str, str, object], None], folder: Path) -> None:
    """Policies of models can be set in a file and, as JSON, in a variable."""
    set_value("file", "routing.models", {"a": "session"})
    assert load_settings().routing.models == {"a": "session"}
    set_value("environment", "routing.models", '{"b": "prefix_affinity"}')
    assert load_settings().routing.models == {"b": "prefix_affinity"}
    set_value("environment", "routing.models", "b=prefix_affinity")
    with pytest.raises(ConfigurationError, match=r"routing\.models: not a valid JSON object"):
        load_settings()
