"""Alembic's entry point: runs the migrations on the connection of `storage.upgrade`, in its transaction."""

from alembic import context

from relay_app.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
