"""Who used the database last: an older program that meets it names the image to run."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table. It must stay as it is: programs read it that are older than what made it."""
    op.create_table(
        "program",
        sa.Column("schema", sa.Text, primary_key=True, comment="a version of the schema"),
        sa.Column("version", sa.Text, nullable=False, comment="of the program that used it last with that"),
        sa.Column("tag", sa.Text, nullable=False, comment="its image's; empty: none"),
    )
