from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from study.config import Protocol
from study.invitations import InvitationError, NoEntryError, invitations, invite, revoke
from study.participants import Joining, join, open_version
from study.platforms import Arrival
from study.schema import Invitation, Person, votes_v1
from study.store import Store
from study.tokens import sign

KEY = "a key for tests, long enough"
NewBrowser = Callable[[], Any]
SetUp = Callable[..., Protocol]


def test_each_link_is_another_and_names_its_row(store: Store) -> None:
    made = invite(store, KEY, number=20, uses=3, days=30, label="panel A")
    assert len({link.path for link in made}) == 20
    assert invitations(store, KEY) == made
    assert {(link.label, link.uses, link.used, link.revoked) for link in made} == {("panel A", 3, 0, False)}
    with store.read() as session:
        spans = {round(row.expires - row.created) for row in session.scalars(select(Invitation))}
    assert spans == {30 * 86_400}
    assert invite(store, KEY)[0].expires is None
    with pytest.raises(InvitationError, match="expected 1 to 10000"):
        invite(store, KEY, number=0)


def test_one_person_by_a_single_link(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    [link] = invite(store, KEY)
    looked, one, other = browser(), browser(), browser()
    assert "Start" in looked.go(link.path).text  # a mail server that looks uses nothing up
    one.go(link.path)
    one.send("/start")
    assert one.path == "/vote"
    page = other.go(link.path)
    assert (page.status_code, other.heading) == (410, "This invitation was used already")
    assert looked.send("/start").status_code == 410  # it came too late
    assert "Continue with pair 1" in one.go(link.path).text
    one.vote()
    assert ">DONE1</output>" in one.go(link.path).text
    with store.read() as session:
        assert [p.invitation for p in session.scalars(select(Person))] == [link.number]
        assert set(session.scalars(select(votes_v1.c.source))) == {"invitation"}
    assert invitations(store, KEY)[0].used == 1


def test_of_ten_at_once_as_many_come_in_as_may(store: Store) -> None:
    [link] = invite(store, KEY, uses=3)
    version = open_version(store)
    assert version

    def come(number: int) -> str:
        arrival = Arrival("invitation", invitation=link.number)
        try:
            return join(store, KEY, Joining(f"{number:032d}", arrival, version.hash)).id
        except NoEntryError as error:
            return error.reason

    with ThreadPoolExecutor(10) as pool:
        came = list(pool.map(come, range(10)))
    assert came.count("used_up") == 7
    assert invitations(store, KEY)[0].used == 3
    with store.read() as session:
        assert len(session.scalars(select(Person)).all()) == 3
    # The same person once more uses nothing up.
    one = next(name for name in came if name != "used_up")
    assert (
        join(store, KEY, Joining(one, Arrival("invitation", invitation=link.number), version.hash)).id == one
    )


def test_revoked_and_expired(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    first, second = invite(store, KEY, number=2, uses=5, days=1)
    inside, one = browser(), browser()
    inside.go(first.path)
    inside.send("/start")
    one.go(first.path)
    before = one.page
    revoke(store, first.number)
    with store.write() as session:
        session.execute(update(Invitation).where(Invitation.id == second.number).values(expires=1.0))
    for link, heading in (
        (first, "This invitation was taken back"),
        (second, "This invitation has ended"),
    ):
        stranger = browser()
        assert stranger.go(link.path).status_code == 410
        assert stranger.heading == heading
    one.page = before
    assert one.send("/start").status_code == 410  # revoked between the two pages
    assert "Continue with pair 1" in inside.go(first.path).text
    with pytest.raises(InvitationError, match="no invitation 77"):
        revoke(store, 77)


def test_a_link_that_we_did_not_sign(store: Store, set_up: SetUp, browser: NewBrowser) -> None:
    set_up()
    [link] = invite(store, KEY)
    for path in (
        "/i/1",
        link.path[:-2],
        "/i/" + sign("another key, which somebody guessed", "invitation", link.number),
        "/i/" + sign(KEY, "return", link.number),  # type: ignore[arg-type]
        "/i/" + sign(KEY, "invitation", 4711),  # a row that is not there
    ):
        stranger = browser()
        assert stranger.go(path).status_code == 404
        assert stranger.heading == "This link is incomplete"


def test_another_link_in_the_same_browser_is_another_person(
    store: Store, set_up: SetUp, browser: NewBrowser
) -> None:
    set_up()
    device = browser()
    for link in invite(store, KEY, number=2):
        device.go(link.path)
        device.send("/start")
    with store.read() as session:
        assert len(session.scalars(select(Person)).all()) == 2
