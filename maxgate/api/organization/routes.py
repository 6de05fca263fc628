"""The routes of OpenAI's admin API for projects, people, keys, usage and the audit log.

AdminGuard keeps them to admins. Other parts of OpenAI's admin API do not exist.
"""

from fastapi import APIRouter

from maxgate.api.organization import audit_logs, keys, projects, service_accounts, usage, users

router = APIRouter()
for part in (projects, users, service_accounts, keys, audit_logs, usage):
    router.include_router(part.router)
