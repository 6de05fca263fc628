"""`maxgate limits` lists, sets and removes limits in the database."""

import pytest

from tests.fakes.command_line import Run, read_json

SOON = "Running gateways take it over within 2 s.\n"


def test_life_of_a_limit(run: Run) -> None:
    """A limit is set, replaced, listed and removed; its id stays."""
    arguments = ("limits", "set", "--unit", "requests", "--per", "minute")
    code, out, err = run(*arguments, "60")
    limit = out.strip()
    assert (code, err) == (0, f"{limit} is set. {SOON}")
    assert run(*arguments, "90")[1].strip() == limit
    assert run("limits", "list")[1].splitlines() == [
        "id                              scope         of  model  amount  unit      per     budget"
        "  alert_at",
        f"{limit}  organization  -   -      90      requests  minute  no      -",
    ]
    assert run("limits", "remove", limit) == (0, "", f"{limit} is removed. {SOON}")
    assert read_json(run, "limits", "list") == []


def test_scopes(run: Run) -> None:
    """A limit is of the organization, a project, a user, a service account or a key."""
    project = run("projects", "create", "Research")[1].strip()
    user = run("users", "add", "ann@example.org")[1].strip()
    run("keys", "create", "--project", project)
    [key] = read_json(run, "keys", "list")
    rate = ("limits", "set", "10", "--unit", "tokens", "--per", "day")
    for scope in (
        (),
        ("--project", "Research"),
        ("--user", "ann@example.org"),
        ("--user", key["owner"]),
        ("--key", key["id"]),
    ):
        assert run(*rate, *scope)[0] == 0
    listed = read_json(run, "limits", "list")
    assert [(limit["scope"], limit["of"], limit["project"]) for limit in listed] == [
        ("organization", "", ""),
        ("project", project, project),
        ("user", user, ""),
        ("user", key["owner"], project),
        ("key", key["id"], project),
    ]
    of_project = read_json(run, "limits", "list", "--project", project)
    assert of_project == [listed[1], listed[3], listed[4]]
    run("keys", "revoke", key["id"])
    run("users", "delete", user, "--yes")
    assert [limit["scope"] for limit in read_json(run, "limits", "list")] == [
        "organization",
        "project",
        "user",
    ]


def test_budget(run: Run) -> None:
    """A budget has money, a time zone and shares that are reported."""
    options = "--per month --time-zone Europe/Berlin --alert-at 80% --alert-at 50 --model llama"
    found = read_json(run, *["limits", "set", "99.50", "--unit", "money"], *options.split())
    assert found == {
        "id": found["id"],
        "scope": "organization",
        "of": "",
        "project": "",
        "model": "llama",
        "amount": 99.5,
        "unit": "money",
        "per": "month",
        "budget": True,
        "time_zone": "Europe/Berlin",
        "alert_at": ["50%", "80%"],
        "alert_amount": None,
        "created_at": found["created_at"],
    }
    found = read_json(run, *["limits", "set", "0.001", "--unit", "gpu_seconds", "--per", "total"])
    assert (found["amount"], found["unit"], found["budget"]) == (0.001, "gpu_seconds", True)


@pytest.mark.parametrize("model", ["smollm2", "smollm2-135m-instruct"])
def test_model(run: Run, model: str) -> None:
    """The model of a limit is named by its name or alias."""
    code, out, err = run("limits", "set", "9", "--unit", "concurrent_requests", "--model", model)
    assert (code, err) == (0, f"{out.strip()} is set. {SOON}")


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        (None, "no model card here has the name or alias 'nix'"),
        ("/nix", "the model cards cannot be read: model card /nix: no such file or folder"),
    ],
)
def test_unknown_model(
    run: Run, monkeypatch: pytest.MonkeyPatch, cards: str | None, reason: str
) -> None:
    """A limit of a model without a card here is set with a warning and a way out."""
    if cards is not None:
        monkeypatch.setenv("MAXGATE_CARDS", cards)
    code, out, err = run("limits", "set", "9", "--unit", "concurrent_requests", "--model", "nix")
    limit = out.strip()
    assert (code, err) == (
        0,
        f"{limit} is set. {SOON}Warning: {reason}. The limit has no effect where no gateway "
        "serves the model; `maxgate models list` lists the models here, and `maxgate limits "
        f"remove {limit}` removes the limit.\n",
    )
    assert [one["model"] for one in read_json(run, "limits", "list")] == ["nix"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("set -- -1 --unit requests --per minute", 2, ""),
        ("set 1.5 --unit requests --per minute", 2, "'1.5' is not a whole number"),
        ("set 0.0000001 --unit money --per day", 2, "up to 6 decimal places"),
        ("set nan --unit money --per day", 2, "is not a number"),
        (
            "set 1 --unit money --per minute",
            2,
            "--per of a budget of money must be one of hour, day, week, month, total, not minute",
        ),
        ("set 1 --unit requests", 2, "minute, hour, day, week, month, not none"),
        (
            "set 1 --unit requests --per total",
            2,
            "--per of a limit of requests must be one of minute, hour, day, week, month, not total",
        ),
        ("set 1 --unit concurrent_requests --per day", 2, "must be one of none"),
        ("set 1 --unit gpu_seconds --per minute", 2, "a budget of gpu_seconds must be one of"),
        ("set 1 --unit concurrent_requests --budget", 2, "a budget must be of money"),
        ("set 1 --unit tokens --per day --alert-at 50", 2, "--alert-at need"),
        ("set 1 --unit money --per day --alert-at 100%", 2, "1% to 99%"),
        (
            "set 1 --unit money --per day --time-zone Mars/Base",
            2,
            "--time-zone 'Mars/Base' is unknown",
        ),
        ("set 1 --unit money --per day --time-zone ../UTC", 2, "'../UTC' is unknown"),
        ("set 9e30 --unit tokens --per day", 2, "must be 0 to 1000000000000000"),
        ("set 1 --unit tokens --per day --project a --key b", 2, "one of --project, --user"),
        ("set 1 --unit tokens --per day --project nix", 2, "no project has the id"),
        ("set 1 --unit tokens --per day --user nix", 2, "no user has the id"),
        ("set 1 --unit tokens --per day --user svcacct_nix", 2, "no user has the id"),
        ("set 1 --unit tokens --per day --key nix", 2, "no key has the id"),
        ("remove limit_nix", 2, "no limit has the id 'limit_nix'"),
    ],
)
def test_refused(run: Run, arguments: str, code: int, message: str) -> None:
    """A limit that cannot be meant is refused with the reason, and nothing is set."""
    found, _, err = run("limits", *arguments.split())
    plain = " ".join(err.replace("│", " ").split())
    assert found == code, err
    assert message in plain
    assert read_json(run, "limits", "list") == []
