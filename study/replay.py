"""Why a trial was what it was: the event of an assignment, worked out again.

The script is written again from (study seed, voter); the side is chosen again from the counts that the
event says it saw. What an event cannot tell is the fill of all other quotas at that moment: the tests
compare whole studies with a second, plain implementation instead.
"""

from collections.abc import Mapping
from typing import Any

from study.config import Protocol
from study.script import script
from study.trials import choose_side


def replay(protocol: Protocol, voter_id: str, trials: int, body: Mapping[str, Any]) -> str:
    """What in the event of an assignment is not as the protocol has it; empty if all is."""
    position = body["position"]
    if position >= trials:
        return f"trial {position} of {trials}"
    step = script(protocol, voter_id, trials)[position]
    if list(step.draws) != body["draws"]:
        return f"the draws {body['draws']} are not those of the script, {list(step.draws)}"
    if step.kind != body["planned"]:
        return f"planned as {body['planned']}, the script says {step.kind}"
    if body["kind"] not in (step.kind, "main"):  # a check that was not to be had is a main trial
        return f"a {body['kind']} trial, planned was {step.kind}"
    if protocol.quota.votes and body["kind"] == "main" and body["load"] >= protocol.quota.votes:
        return f"its quota was full: {body['load']} of {protocol.quota.votes}"
    if body["kind"] == "repeat":
        return ""  # the other side than the first time
    first_left = choose_side(body["lead"], body["lefts"], body["load"], step.draws[2])
    if first_left != body["first_left"]:
        return f"first_left is {body['first_left']}, the counts and the draw say {first_left}"
    return ""


def explain(protocol: Protocol, body: Mapping[str, Any]) -> str:
    """The event of an assignment in words."""
    words = [f"trial {body['position']}: {body['kind']}, cell {body['cell']}"]
    if body["planned"] != body["kind"]:
        words.append(f"a {body['planned']} was planned, but none was to be had")
    if body["kind"] == "main":
        wanted = protocol.quota.votes or "no end of"
        words.append(f"among the least filled quotas: {body['load']} votes and leases of {wanted} wanted")
    if body["kind"] == "repeat":
        words.append(f"mirrors trial {body['repeat_of']}")
    else:
        words.append(
            f"the voter had its first image {body['lead']:+} times oftener left than right, "
            f"all voters {body['lefts']} times left of {body['load']}"
        )
    words.append(f"draws {', '.join(f'{draw:.4f}' for draw in body['draws'])}")
    return "; ".join(words)
