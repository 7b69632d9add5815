"""Votes that do not count in tables: a rule with a reason, recorded, reversible. No vote is ever touched.

The view `votes_v1` applies the rules that stand, so whatever is made of it leaves these votes out and
says why.
"""

import time
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from study.chain import decide, hold_decisions
from study.schema import Decision, Exclusion, PromptRow, Vote, Voter
from study.store import Store

LONGEST_REASON = 500
WITHDRAWN = "withdrawn"  # the reason of the rules that voters make by leaving


class ExclusionError(ValueError):
    """A rule that cannot be made or lifted; one line."""


@dataclass(frozen=True)
class Rule:
    """Leave out all votes of a `judge`, all on a `prompt`, or one `vote`."""

    number: int
    field: str
    value: str
    reason: str
    lifted: bool


def exclude(store: Store, field: str, values: list[str], reason: str) -> list[Rule]:
    """Make a rule for each value, all or none; one that stands already is left as it is.

    Raises
    ------
    ExclusionError
        If a value names nothing in this study, or if there is no reason.
    """
    reason = " ".join(reason.split())
    if not 1 <= len(reason) <= LONGEST_REASON:
        raise ExclusionError(f"reason: found {len(reason)} characters, expected 1 to {LONGEST_REASON}")
    with store.write() as session:
        return add_rules(session, field, values, reason)


def add_rules(session: Session, field: str, values: list[str], reason: str) -> list[Rule]:
    """`exclude`, as a part of a write transaction."""
    hold_decisions(session)
    key = {"judge": Voter.judge, "vote": Vote.vote_id, "prompt": PromptRow.id}[field]
    made = []
    standing = set(
        session.scalars(select(Exclusion.value).where(Exclusion.field == field, Exclusion.lifted.is_(None)))
    )
    number = session.scalar(select(func.max(Exclusion.id))) or 0
    for value in dict.fromkeys(values):
        if session.scalar(select(key).where(key == value)) is None:
            raise ExclusionError(f"no {field} {value!r} in this study")
        if value in standing:
            continue
        number += 1
        body = {"rule": number, "field": field, "value": value, "reason": reason}
        decision = decide(session, "excluded", time.time(), body)
        session.add(
            Exclusion(id=number, field=field, value=value, reason=reason, made=decision.seq, lifted=None)
        )
        session.flush()
        made.append(Rule(number, field, value, reason, lifted=False))
    return made


def lift(store: Store, number: int) -> None:
    """Let the votes of a rule count again; the rule and its lifting stay on record.

    Raises
    ------
    ExclusionError
        If no such rule stands, or if the voter took their votes out by withdrawing.
    """
    with store.write() as session:
        hold_decisions(session)
        rule = session.get(Exclusion, number)
        if rule is None or rule.lifted is not None:
            raise ExclusionError(f"no rule {number} stands")
        if rule.reason == WITHDRAWN and _has_withdrawn(session, rule):
            raise ExclusionError(f"rule {number} stays: the voter withdrew")
        decision: Decision = decide(session, "lifted", time.time(), {"rule": number})
        session.execute(update(Exclusion).where(Exclusion.id == number).values(lifted=decision.seq))


def _has_withdrawn(session: Session, rule: Exclusion) -> bool:
    withdrawn = select(Voter.withdrawn).where(Voter.judge == rule.value)
    return rule.field == "judge" and session.scalar(withdrawn) is not None


def rules(store: Store) -> list[Rule]:
    """All rules in the order in which they were made, the lifted ones too."""
    with store.read() as session:
        found = session.scalars(select(Exclusion).order_by(Exclusion.id)).all()
    return [Rule(r.id, r.field, r.value, r.reason, r.lifted is not None) for r in found]
