"""The parts that all routes of the organization share: caller, repetitions, ETags and pages."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from maxgate.api.errors import duplicate_parameter
from maxgate.api.organization.schemas import Item, ObjectList
from maxgate.api.proxies import TrustedProxies
from maxgate.api.request_body import BodyRoute
from maxgate.auth.organization.changes import Actor, Change, Idempotency, Organization
from maxgate.auth.organization.errors import PreconditionFailed
from maxgate.errors import InvalidRequest, NotFound, NotSupported
from maxgate.generation.context import RequestContext
from maxgate.stores.identity import IdentityTransaction, Page

_ID: Final = re.compile(r"[A-Za-z0-9_.@-]{1,100}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_VERSION: Final = re.compile(r'"([0-9]{1,18})"')
_ETAG: Final = re.compile(r'(W/)?"[^"]*"')

Cursor = Annotated[str | None, Field(max_length=100)]
Model = TypeVar("Model", bound=BaseModel)


class NoOrganization(NamedTuple):
    """The gateway has no database of keys; `reason` names the setting."""

    reason: str


class AdminRequest:
    """A request of an admin: the organization, who changes it, and the headers of the change.

    Raises NotSupported without a database, and InvalidRequest for invalid headers.
    """

    def __init__(self, request: Request, response: Response) -> None:
        organization: Organization | NoOrganization = request.app.state.organization
        if isinstance(organization, NoOrganization):
            raise NotSupported(organization.reason)
        self._organization = organization
        self._request = request
        self._response = response
        response.headers["cache-control"] = "no-store"  # some have a key
        context: RequestContext = request.state.context
        principal = context.principal
        proxies: TrustedProxies = request.app.state.proxies
        address = proxies.find_address(request.scope) or None
        self._actor = Actor(principal.key_id or principal.owner_id, address)
        self.version = parse_if_match(request.headers.get("if-match"))

    def read(self) -> AbstractAsyncContextManager[IdentityTransaction]:
        """Begin a transaction that only reads."""
        return self._organization.read()

    def change(self) -> AbstractAsyncContextManager[Change]:
        """Begin a change that clients may repeat without harm."""
        return self._organization.change(self._actor)

    async def create(
        self, model: type[Model], create: Callable[[Change], Awaitable[Model]]
    ) -> Model:
        """Create something once, and return the same response to all repetitions of the request."""
        async with self._organization.change(self._actor, await self._identify()) as change:
            if change.replay is not None:
                return model.model_validate(change.replay)
            created = await create(change)
            change.response = created.model_dump(mode="json")
            return created

    def hash_key(self, text: str) -> list[bytes]:
        """Return the hashes under which a key may be stored, one per pepper."""
        return self._organization.hash_key(text)

    def tag(self, version: int) -> None:
        """Send the ETag of an object with this version."""
        self._response.headers["etag"] = f'"{version}"'

    async def _identify(self) -> Idempotency | None:
        key = self._request.headers.get("idempotency-key")
        if key is None:
            return None
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise InvalidRequest(
                "'Idempotency-Key' must have 1 to 255 printable ASCII characters.",
                param="Idempotency-Key",
            )
        target = f"{self._request.method} {self._request.url.path}\0".encode()
        return Idempotency(key, sha256(target + await self._request.body()).digest())


Admin = Annotated[AdminRequest, Depends()]


_PLAIN_LISTS: Final = frozenset(
    {"api_key_ids", "group_by", "line_items", "models", "project_ids", "user_ids"}
)
"""Lists in the query of usage, whose names may lack the brackets."""


def check_target(request: Request) -> None:
    """Raise NotFound for ids in the path that no object can have.

    Raises InvalidRequest for a field of the query that is there twice and is no list.
    """
    for name, value in request.path_params.items():
        if not _ID.fullmatch(str(value)):
            raise NotFound(f"No object has the {name} {str(value)[:100]!r}.", code="not_found")
    names = set[str]()
    for name, _ in request.query_params.multi_items():
        if name in names and not (name.endswith("[]") or name in _PLAIN_LISTS):
            raise duplicate_parameter(name)
        names.add(name)


def create_router() -> APIRouter:
    """Return a router for a part of the admin API."""
    return APIRouter(
        prefix="/v1/organization",
        tags=["organization"],
        route_class=BodyRoute,
        dependencies=[Depends(check_target)],
    )


class PageQuery(BaseModel):
    """Up to `limit` objects after the one with the id `after`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=20, ge=1, le=100)
    after: Cursor = None

    def build_page(self, order: Literal["asc", "desc"] = "asc") -> Page:
        """Return the page of the store."""
        return Page(self.limit, self.after or None, order=order)


Paging = Annotated[PageQuery, Query()]


def build_list(items: Sequence[Item], *, has_more: bool) -> ObjectList[Item]:
    """Return a page of a list."""
    return ObjectList(
        data=list(items),
        first_id=items[0].id if items else None,
        last_id=items[-1].id if items else None,
        has_more=has_more,
    )


def parse_if_match(value: str | None) -> int | None:
    """Return the version that the client expects, None for any.

    Raises PreconditionFailed for an ETag that no object has, and InvalidRequest.
    """
    if value is None or value.strip() == "*":
        return None
    if (found := _VERSION.fullmatch(value.strip())) is not None:
        return int(found.group(1))
    if _ETAG.fullmatch(value.strip()):
        raise PreconditionFailed
    raise InvalidRequest("'If-Match' must be one ETag in quotes, or *.", param="If-Match")
