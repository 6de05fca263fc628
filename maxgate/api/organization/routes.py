"""The routes of OpenAI's admin API: projects, people, keys, limits, usage and the audit log.

AdminGuard keeps them to admins. Other parts of OpenAI's admin API do not exist.
"""

from fastapi import APIRouter

from maxgate.api.organization import (
    audit_logs,
    keys,
    projects,
    rate_limits,
    service_accounts,
    spend,
    usage,
    users,
)

router = APIRouter()
for part in (projects, users, service_accounts, keys, rate_limits, spend, audit_logs, usage):
    router.include_router(part.router)
