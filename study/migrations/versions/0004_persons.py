"""Persons with their entrances, invitations, what they said about themselves, and those who withdrew.

Everybody who voted before came by the open link; each gets a row, so that they can withdraw.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ENTRANCES = "'link', 'invitation', 'prolific', 'mturk', 'kiosk'"


def upgrade() -> None:
    op.add_column("voters", sa.Column("withdrawn", sa.Float(), nullable=True))
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint("uses >= 1 AND used >= 0 AND used <= uses", name="uses"),
        sa.PrimaryKeyConstraint("id"),
    )
    persons = op.create_table(
        "persons",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("platform_id", sa.Text(), nullable=True),
        sa.Column("received", sa.JSON(), nullable=False),
        sa.Column("invitation", sa.Integer(), nullable=True),
        sa.Column("protocol", sa.String(length=64), nullable=False),
        sa.Column("consented", sa.Float(), nullable=True),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("screened_out", sa.Boolean(), nullable=False),
        sa.Column("voter_id", sa.String(length=32), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.CheckConstraint(f"source IN ({ENTRANCES})", name="source"),
        sa.ForeignKeyConstraint(["invitation"], ["invitations.id"]),
        sa.ForeignKeyConstraint(["protocol"], ["protocols.hash"]),
        sa.ForeignKeyConstraint(["voter_id"], ["voters.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "platform_id"),
        sa.UniqueConstraint("voter_id"),
    )
    op.create_table(
        "demographics",
        sa.Column("person_id", sa.String(length=32), nullable=False),
        sa.Column("question", sa.String(length=32), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["persons.id"]),
        sa.PrimaryKeyConstraint("person_id", "question"),
    )
    op.create_table(
        "tombstones",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    found = op.get_bind().execute(sa.text("SELECT id, protocol, created FROM voters")).all()
    rows = [
        {
            "id": secrets.token_hex(16),
            "key": secrets.token_hex(32),
            "source": "link",
            "received": {},
            "protocol": voter.protocol,
            "asked": True,
            "screened_out": False,
            "voter_id": voter.id,
            "created": voter.created,
        }
        for voter in found
    ]
    if rows:
        op.bulk_insert(persons, rows)


def downgrade() -> None:
    for table in ("tombstones", "demographics", "persons", "invitations"):
        op.drop_table(table)
    op.drop_column("voters", "withdrawn")
