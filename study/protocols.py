"""Versions of the protocol: `study open` freezes study.toml, numbers it and makes what is to be voted on.

A voter stays under the version they came under; a new version is for new voters, and counts from zero.
"""

import json
import time
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.orm import Session

from study.chain import decide
from study.checks import check_cells
from study.config import ConfigError, Protocol, parse_protocol
from study.design import Material, Row, main_cells, shuffled
from study.schema import Cell, ImageRow, ProtocolRow, Quota
from study.served import Served
from study.store import Store, StoreError

_known: dict[str, Protocol] = {}  # hash → protocol: what a hash names never changes


@dataclass(frozen=True)
class Version:
    """A protocol that was opened; `new` if that happened just now."""

    number: int
    hash: str
    protocol: Protocol
    new: bool = False


def protocol_of(session: Session | Connection, hash_: str) -> Protocol:
    """The protocol of a hash that the database holds."""
    if hash_ not in _known:
        body = session.scalars(select(ProtocolRow.body).where(ProtocolRow.hash == hash_)).one()
        _known[hash_] = parse_stored(body)
    return _known[hash_]


def parse_stored(body: str) -> Protocol:
    """A protocol as it was stored; keys that came later have their defaults."""
    return parse_protocol(json.loads(body), "the stored protocol")


def newest(session: Session) -> Version | None:
    """The version that new voters come under; None before the first `study open`."""
    row = session.execute(
        select(ProtocolRow.version, ProtocolRow.hash).order_by(ProtocolRow.version.desc()).limit(1)
    ).first()
    return None if row is None else Version(row.version, row.hash, protocol_of(session, row.hash))


def must_be_open(store: Store, protocol: Protocol) -> Version:
    """The version that is open, if study.toml still says the same.

    Raises
    ------
    ConfigError
        If study.toml was changed since.
    """
    with store.read() as session:
        version = newest(session)
    if version is None:
        return open_protocol(store, protocol)
    if version.protocol != protocol:
        changed = [
            k for k in type(protocol).model_fields if getattr(protocol, k) != getattr(version.protocol, k)
        ]
        raise ConfigError(
            f"study.toml: {', '.join(changed)} changed since version {version.number} was opened; "
            f"`study open` makes it version {version.number + 1}, or undo the change"
        )
    return version


def open_protocol(store: Store, protocol: Protocol) -> Version:
    """Freeze a protocol as the next version, with its quotas and pairs; the newest one again is no change.

    Raises
    ------
    ConfigError
        If the protocol cannot be carried out with the study's gallery, or is an older version.
    StoreError
        If there is no gallery.
    """
    with store.read() as session:
        version = newest(session)
        if version is not None and version.protocol == protocol:
            return version
        old = session.scalar(select(ProtocolRow.version).where(ProtocolRow.hash == protocol.hash))
        if old is not None:
            raise ConfigError(f"study.toml: these settings were version {old}; a version is opened once")
        material = Material.of(session, protocol)
    if not material.images:
        raise StoreError("nothing to show yet; `study ingest GALLERY` first")
    opened = Version(version.number + 1 if version else 1, protocol.hash, protocol, new=True)
    files = Served(store.served)
    try:
        # All files before the transaction: a running server need not wait for the encoder.
        checks = check_cells(material, protocol, files)
        with store.write() as session:
            _add_version(session, opened, material.digest)
            _add_cells(session, protocol, *main_cells(material, protocol), checks)
    except BaseException:
        files.remove()
        raise
    return opened


def _add_version(session: Session, version: Version, gallery: str) -> None:
    now = time.time()
    session.add(
        ProtocolRow(
            hash=version.hash,
            version=version.number,
            study=version.protocol.name,
            body=version.protocol.canonical(),
            created=now,
        )
    )
    decide(session, "opened", now, {"version": version.number, "protocol": version.hash, "gallery": gallery})


def _add_cells(
    session: Session, protocol: Protocol, quotas: list[Row], cells: list[Row], checks: list[Row]
) -> None:
    hash_ = protocol.hash
    session.execute(insert(Quota), [{"protocol": hash_, "load": 0, "lefts": 0, **row} for row in quotas])
    found = session.execute(
        select(Quota.id, Quota.method_1, Quota.method_2, Quota.stratum).where(Quota.protocol == hash_)
    )
    ids = {(one, other, stratum): id_ for id_, one, other, stratum in found}
    for row in cells:
        row["quota_id"] = ids[row["method_1"], row["method_2"], row.pop("stratum")]
    session.add_all(row["image_2"] for row in checks if isinstance(row["image_2"], ImageRow))
    session.flush()
    for row in checks:
        if isinstance(row["image_2"], ImageRow):
            row["image_2"] = row["image_2"].id
    everything = cells + shuffled(checks, protocol.seed)
    session.execute(insert(Cell), [{"protocol": hash_, **row} for row in everything])


def count_cells(session: Session, hash_: str) -> int:
    """How many pairs there are to vote on."""
    statement = select(func.count()).where(Cell.protocol == hash_, Cell.kind == "main")
    return session.scalar(statement) or 0
