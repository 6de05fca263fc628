"""Run by Alembic, within the transaction and under the lock of maxgate/stores/migrate.py."""

from alembic import context

if hasattr(context, "config"):  # not if it is only imported
    options = context.config.attributes
    context.configure(
        connection=options["connection"],
        version_table=options["version_table"],
        version_table_schema=options["schema"],
        transactional_ddl=True,  # SQLite has it, because its transactions begin by BEGIN here
    )
    context.run_migrations()
