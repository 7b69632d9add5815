"""Trials that end without a vote: skipped, where the protocol allows it, or because of an image.

Such a trial counts among those of its voter, who gets no other one for it; its pair is not shown to them
again, and its place in the quota goes back at once.
"""

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from study.ballot import Ballot, ballot_of, current
from study.chain import Held, digest, holding, record
from study.leases import release
from study.own_trials import RefusedError, open_trials, own_trial, quota_of, set_state
from study.protocols import protocol_of
from study.schema import WAITING, table
from study.store import Store

events, reports = table("events"), table("reports")


def skip(store: Store, voter_id: str, trial_id: str, skip_id: str, reason: str) -> Ballot:
    """End a trial that the voter passes over and return the ballot after it; the same again changes nothing.

    skip_id  chosen by the client and kept when it resends

    Raises
    ------
    RefusedError
        foreign_trial, skip_not_allowed (403), unknown_trial (404); already_answered (409) when the trial
        ended in another way.
    """
    with holding(store, voter_id) as (db, voter):
        trial = own_trial(db, voter, trial_id)
        if not protocol_of(db, voter.protocol).page.skip:
            raise RefusedError("skip_not_allowed", 403)
        _end(db, voter, trial, "skipped", time.time(), {"id": skip_id, "reason": reason})
        ballot = ballot_of(db, voter, open_trials(db, voter))
    return current(store, voter_id) if ballot.busy else ballot


def report(store: Store, voter_id: str, trial_id: str, report_id: str, side: str, reason: str = "") -> Ballot:
    """End a trial because of the image on one side, keep what the voter says about it, return the ballot.

    report_id  chosen by the client and kept when it resends: the same again changes nothing

    Raises
    ------
    RefusedError
        foreign_trial (403), unknown_trial (404); already_answered (409) when the trial ended in another way.
    """
    now = time.time()
    with holding(store, voter_id) as (db, voter):
        trial = own_trial(db, voter, trial_id)
        image = trial.left_image if side == "left" else trial.right_image
        words = digest(reason) if reason else None
        body = {"id": report_id, "side": side, "image": image, "reason": words}
        event = _end(db, voter, trial, "reported", now, body)
        if event is not None:
            told = {"side": side, "image_id": image, "reason": reason or None, "at": now}
            db.execute(insert(reports), {"trial_id": trial_id, "event_id": event, **told})
        ballot = ballot_of(db, voter, open_trials(db, voter))
    return current(store, voter_id) if ballot.busy else ballot


def _end(
    db: Connection, voter: Held, trial: Any, how: str, now: float, body: Mapping[str, Any]
) -> int | None:
    """Close a trial and record it, returning the event's id; None if this very request did so before."""
    if trial.state not in WAITING:
        before = db.scalar(
            select(events.c.body).where(events.c.trial_id == trial.trial_id, events.c.event == how)
        )
        if before is None or before["id"] != body["id"]:
            raise RefusedError("already_answered", 409)
        return None
    quota = quota_of(trial)
    if quota:
        release(db, quota, trial)
    set_state(db, trial.trial_id, how)
    return record(db, voter, trial.trial_id, how, now, body)
