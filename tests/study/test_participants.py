"""Joining a study, without its pages."""

import pytest

from study.participants import Joining, NoEntryError, join, open_version, recognise
from study.platforms import Arrival
from study.store import Store

KEY = "a key for tests, long enough"
PID = "5f3c9a0e7b1d2c4e6f8a9b0c"


def test_joining_is_idempotent_and_platform_ids_are_unique(store: Store) -> None:
    version = open_version(store)
    assert version
    arrival = Arrival("prolific", PID, {"PROLIFIC_PID": PID})
    one = join(store, KEY, Joining("1" * 32, arrival, version.hash))
    assert join(store, KEY, Joining("1" * 32, arrival, version.hash)).id == one.id
    assert join(store, KEY, Joining("2" * 32, arrival, version.hash)).id == one.id
    worker = Arrival("mturk", PID, {"workerId": PID})
    assert join(store, KEY, Joining("3" * 32, worker, version.hash)).id == "3" * 32
    assert recognise(store, KEY, Arrival("prolific", "somebody else")) is None
    with pytest.raises(NoEntryError, match="unknown"):
        join(store, KEY, Joining("4" * 32, Arrival("invitation", invitation=7), version.hash))
