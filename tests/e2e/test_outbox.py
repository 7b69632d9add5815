"""Answers are never lost and never counted twice, whatever happens to network, page, browser and tabs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CHROMIUM, UNSENT, settle, wait_for_pictures, wait_until_sent
from tests.e2e.test_voting import Voter, exported

pytestmark = pytest.mark.browser

KEYS = {"left": "ArrowLeft", "tie": "ArrowDown", "right": "ArrowRight"}
SIDES = {"model_a": "left", "tie": "tie", "model_b": "right"}


@pytest.fixture(scope="module")
def served(
    serve: Callable[..., Any], build_gallery: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """24 trials, 20 of them loaded ahead."""
    return serve(build_gallery(tmp_path_factory.mktemp("g") / "gallery", prompts=8), toml="prefetch = 20\n")


@pytest.fixture
def voter(browser: Any, served: Any) -> Iterator[Voter]:
    voter = Voter(browser, served.address)
    voter.start()
    yield voter
    voter.context.close()


@pytest.fixture
def stored(served: Any, command: Callable[..., str], tmp_path: Path) -> Callable[[Voter], dict[str, str]]:
    """What the dump says that a voter chose, trial by trial; fails if a trial has two votes."""

    def look(voter: Voter) -> dict[str, str]:
        rows = [
            row
            for row in exported(command, served.folder, tmp_path / "v.jsonl")
            if row["trial_id"] in voter.picked
        ]
        chosen = {row["trial_id"]: SIDES[row["winner"]] for row in rows}
        assert len(chosen) == len(rows)
        return chosen

    return look


def answer(voter: Voter, number: int, side: str, page: Any = None) -> None:
    """Answer pair `number` and remember how."""
    page = page or voter.page
    voter.wait_for_pair(number, page)
    voter.picked[voter.trial(page)] = side
    page.keyboard.press(KEYS[side])


def test_twenty_trials_without_network_arrive_once_and_in_order(
    voter: Voter, stored: Callable[[Voter], dict[str, str]]
) -> None:
    wait_for_pictures(voter.page, 21)
    voter.context.set_offline(True)
    for number in range(1, 22):
        answer(voter, number, ("left", "right", "tie")[number % 3])
        if number == 2:
            voter.page.get_by_text("No connection").wait_for()
    voter.page.get_by_role("heading", name="Waiting for the connection").wait_for()
    assert voter.page.locator("#stage img").count() == 0
    voter.context.set_offline(False)
    answer(voter, 22, "left")
    wait_until_sent(voter.page)
    assert voter.page.locator("#note").inner_text() == ""
    voter.wait_for_pair(23)
    assert list(stored(voter).items()) == list(voter.picked.items())


def test_an_answer_whose_reply_is_lost_is_one_vote(
    voter: Voter, stored: Callable[[Voter], dict[str, str]]
) -> None:
    voter.page.route("**/vote", lambda route: (route.fetch(), route.abort()), times=1)
    answer(voter, 1, "right")
    voter.page.get_by_text("No connection").wait_for()
    voter.wait_for_pair(2)
    wait_until_sent(voter.page)
    assert stored(voter) == voter.picked


def test_a_reload_keeps_unsent_answers_and_goes_on_behind_them(
    voter: Voter, stored: Callable[[Voter], dict[str, str]]
) -> None:
    voter.page.route("**/trials/*/vote", lambda route: route.abort())
    answer(voter, 1, "left")
    answer(voter, 2, "tie")
    voter.wait_for_pair(3)
    voter.page.reload()
    voter.wait_for_pair(3)  # the server believes that pair 1 is open
    assert voter.page.evaluate(UNSENT) == 2
    voter.page.unroute("**/trials/*/vote")
    answer(voter, 3, "right")
    wait_until_sent(voter.page)
    assert stored(voter) == voter.picked


def test_a_crash_of_the_page_loses_nothing(voter: Voter, stored: Callable[[Voter], dict[str, str]]) -> None:
    voter.page.route("**/trials/*/vote", lambda route: route.abort())
    for number in (1, 2, 3):
        answer(voter, number, "left")
    voter.wait_for_pair(4)
    with pytest.raises(Exception, match="crash"):
        voter.page.goto("chrome://crash")
    again = voter.context.new_page()
    again.goto(f"{voter.address}/vote")
    voter.wait_for_pair(4, again)
    wait_until_sent(again)
    assert stored(voter) == voter.picked


def test_a_closed_browser_loses_nothing(
    browser: Any, served: Any, stored: Callable[[Voter], dict[str, str]], tmp_path: Path
) -> None:
    def launch() -> Any:
        return browser.browser_type.launch_persistent_context(
            tmp_path / "profile", executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )

    voter = Voter(launch(), served.address)
    voter.start()
    voter.page.route("**/trials/*/vote", lambda route: route.abort())
    answer(voter, 1, "right")
    answer(voter, 2, "left")
    voter.wait_for_pair(3)
    voter.context.close()
    again = launch()
    page = again.new_page()
    page.goto(f"{served.address}/vote")
    voter.wait_for_pair(3, page)
    wait_until_sent(page)
    again.close()
    assert stored(voter) == voter.picked


def test_a_second_tab_follows_the_first(voter: Voter, stored: Callable[[Voter], dict[str, str]]) -> None:
    other = voter.context.new_page()
    other.goto(f"{voter.address}/vote")
    voter.wait_for_pair(1, other)
    answer(voter, 1, "left")
    voter.wait_for_pair(2, other)  # by itself
    assert other.get_by_text("answered in another tab").is_visible()
    for page in (voter.page, other):
        wait_for_pictures(page, 21)
    voter.context.set_offline(True)
    answer(voter, 2, "right", other)
    answer(voter, 3, "tie")
    answer(voter, 4, "left", other)
    voter.context.set_offline(False)
    wait_until_sent(voter.page)
    assert stored(voter) == voter.picked


def test_a_stale_tab_never_votes_twice(
    browser: Any, served: Any, stored: Callable[[Voter], dict[str, str]]
) -> None:
    """In a browser whose tabs can neither talk to each other nor wait for each other."""
    voter = Voter(browser, served.address)
    voter.context.add_init_script(
        "delete window.BroadcastChannel; Object.defineProperty(navigator, 'locks', {value: undefined})"
    )
    voter.start()
    other = voter.context.new_page()
    other.goto(f"{served.address}/vote")
    voter.wait_for_pair(1, other)
    answer(voter, 1, "left")
    wait_until_sent(voter.page)
    assert other.locator("#count").inner_text().startswith("Pair 1 ")
    other.keyboard.press("ArrowRight")
    other.get_by_text("had an answer already").wait_for()
    answer(voter, 2, "tie", other)
    wait_until_sent(other)
    assert stored(voter) == voter.picked
    voter.context.close()


def test_without_a_database_answers_are_kept_in_memory_and_leaving_is_warned_of(
    browser: Any, served: Any, stored: Callable[[Voter], dict[str, str]]
) -> None:
    voter = Voter(browser, served.address)
    voter.context.add_init_script("Object.defineProperty(window, 'indexedDB', {value: undefined})")
    voter.start()
    wait_for_pictures(voter.page, 21)
    voter.context.set_offline(True)
    answer(voter, 1, "left")
    answer(voter, 2, "right")
    voter.page.get_by_text("No connection").wait_for()
    voter.page.on("dialog", lambda dialog: dialog.dismiss())
    with voter.page.expect_event("dialog") as asked:
        voter.page.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    last = list(voter.picked)[-1]
    with voter.page.expect_response(f"**/trials/{last}/vote"):
        voter.context.set_offline(False)
    voter.page.get_by_text("No connection").wait_for(state="hidden")
    voter.wait_for_pair(3)
    assert stored(voter) == voter.picked
    voter.context.close()


def test_an_answer_is_taken_back_sent_or_not(voter: Voter, stored: Callable[[Voter], dict[str, str]]) -> None:
    page = voter.page
    answer(voter, 1, "left")
    wait_until_sent(page)
    voter.wait_for_pair(2)
    page.keyboard.press("Backspace")
    answer(voter, 1, "right")
    answer(voter, 2, "left")
    voter.wait_for_pair(3)
    wait_until_sent(page)
    wait_for_pictures(page, 21)
    voter.context.set_offline(True)
    answer(voter, 3, "left")
    voter.wait_for_pair(4)
    page.get_by_role("button", name="Undo").click()
    voter.wait_for_pair(3)
    page.get_by_role("button", name="Undo").click()  # the one before, too, which is stored
    answer(voter, 2, "tie")
    answer(voter, 3, "right")
    voter.wait_for_pair(4)
    voter.context.set_offline(False)
    wait_until_sent(page)
    assert stored(voter) == voter.picked
    page.reload()
    voter.wait_for_pair(4)


def test_an_undo_that_was_not_sent_survives_a_reload(
    voter: Voter, stored: Callable[[Voter], dict[str, str]]
) -> None:
    answer(voter, 1, "left")
    wait_until_sent(voter.page)
    voter.page.route("**/trials/*/undo", lambda route: route.abort())
    voter.wait_for_pair(2)
    voter.page.keyboard.press("Backspace")
    voter.wait_for_pair(1)
    voter.page.reload()
    voter.wait_for_pair(2)  # as the server sees it
    voter.page.unroute("**/trials/*/undo")
    wait_until_sent(voter.page)
    answer(voter, 2, "tie")
    answer(voter, 1, "right")  # open again
    answer(voter, 3, "left")
    wait_until_sent(voter.page)
    assert stored(voter) == voter.picked


def test_an_answer_without_a_session_waits_for_one(
    voter: Voter, stored: Callable[[Voter], dict[str, str]]
) -> None:
    cookies = voter.context.cookies()
    voter.context.clear_cookies()
    answer(voter, 1, "left")
    voter.page.get_by_text("This page is out of date. Your answers are kept here.").wait_for()
    assert voter.page.evaluate(UNSENT) == 1
    voter.context.add_cookies(cookies)
    voter.page.get_by_role("link", name="Go on where you were").click()
    voter.page.get_by_role("link", name="Continue with pair 1").click()
    voter.wait_for_pair(2)
    wait_until_sent(voter.page)
    assert stored(voter) == voter.picked


def test_a_refused_answer_is_not_dropped_in_silence(voter: Voter) -> None:
    refusal = {"status": 403, "json": {"error": "foreign_trial"}}
    voter.page.route("**/trials/*/vote", lambda route: route.fulfill(**refusal), times=1)
    answer(voter, 1, "left")
    voter.page.get_by_text("The server did not take an answer (foreign_trial).").wait_for()
    voter.page.keyboard.press("ArrowLeft")  # nothing goes on as if nothing had happened
    voter.page.get_by_role("link", name="Go on where you were").click()
    voter.page.get_by_role("link", name="Continue with pair 1").click()
    voter.wait_for_pair(1)


def test_nothing_takes_the_place_of_the_only_way_on(voter: Voter) -> None:
    voter.page.route("**/trials/*/vote", lambda route: route.abort())
    answer(voter, 1, "left")
    answer(voter, 2, "right")
    voter.page.get_by_text("No connection").wait_for()
    refusal = {"status": 403, "json": {"error": "foreign_trial"}}
    once = {"times": 1}  # then no network again
    voter.page.route("**/trials/*/vote", lambda route: route.fulfill(**refusal), **once)
    voter.page.get_by_text("The server did not take an answer (foreign_trial).").wait_for()
    voter.page.wait_for_event("requestfailed")  # the second answer, which has something to say as well
    settle(voter.page)
    voter.page.get_by_role("link", name="Go on where you were").click()
    voter.page.get_by_role("link", name="Continue with pair").wait_for()


def test_what_was_not_sent_before_the_end_is_sent_from_the_end_page(
    browser: Any, serve: Callable[..., Any], gallery: Path, command: Callable[..., str], tmp_path: Path
) -> None:
    served = serve(gallery, toml="trials_per_voter = 1\n")
    voter = Voter(browser, served.address)
    voter.start()
    lost = "**/trials/*/vote"
    voter.page.route(
        lost, lambda route: (route.fetch(), route.abort())
    )  # the server has it, the page does not know
    answer(voter, 1, "left")
    voter.page.get_by_role("heading", name="Waiting for the connection").wait_for()
    voter.page.get_by_role("button", name="Undo").click()
    answer(voter, 1, "right")
    voter.page.get_by_role("heading", name="Waiting for the connection").wait_for()
    assert voter.page.evaluate(UNSENT) == 3
    voter.page.unroute(lost)
    voter.page.goto(f"{served.address}/vote")
    voter.page.get_by_role("heading", name="Thank you!").wait_for()
    wait_until_sent(voter.page)
    (row,) = exported(command, served.folder, tmp_path / "v.jsonl")
    assert (row["trial_id"], SIDES[row["winner"]]) == (next(iter(voter.picked)), "right")
    voter.context.close()
