"""What the voting page offers beside a vote, and when it shows no pair."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import settle, wait_until_sent
from tests.e2e.test_voting import Voter, exported

pytestmark = pytest.mark.browser

RICH = """
prefetch = 2

[breaks]
every = 3
text = "You are doing *well*."

[[questions]]
id = "preference"
text = "Which picture do you prefer?"

[[questions]]
id = "words"
text = "Which fits the words better, leaving beauty aside?"
tie = false
both_bad = true

[page]
skip = true
min_exposure_ms = 600
"""
HIDE = """hidden => {
    const before = performance.now();
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
    return [before, performance.now()];
}"""


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any], gallery: Path) -> Any:
    return serve(gallery, toml=RICH)


@pytest.fixture
def voter(browser: Any, served: Any) -> Iterator[Voter]:
    voter = Voter(browser, served.address)
    voter.page.goto(served.address)
    voter.page.get_by_role("button", name="Start").click()
    yield voter
    assert voter.errors == []
    voter.context.close()


def count(voter: Voter) -> str:
    return voter.page.locator("#count").inner_text()


def question(voter: Voter) -> str:
    return voter.page.locator("#question").inner_text()


def answer(voter: Voter, number: int, first: str = "ArrowLeft", second: str = "ArrowRight") -> str:
    """Answer both questions of a pair; returns its trial."""
    voter.wait_for_pair(number)
    trial = voter.trial()
    voter.page.keyboard.press(first)
    voter.page.wait_for_timeout(250)
    voter.page.keyboard.press(second)
    return trial


def moment(voter: Voter, mark: str) -> float:
    """When a pair was last "revealed" or "answered", in milliseconds on the page's clock."""
    return voter.page.evaluate("mark => performance.getEntriesByName(mark).at(-1).startTime", mark)


def rows_of(trial: str, served: Any, command: Callable[..., str], tmp_path: Path) -> dict[str, Any]:
    rows = exported(command, served.folder, tmp_path / "v.jsonl")
    return {row["question"]: row for row in rows if row["trial_id"] == trial}


def ended(served: Any, trial: str) -> list[tuple[str, str]]:
    """The events of a trial after it was given to the voter."""
    with closing(sqlite3.connect(served.folder / "study.db")) as database:
        found = database.execute(
            "SELECT event, body FROM events WHERE trial_id = ? AND event != 'assigned' ORDER BY seq", [trial]
        )
        return found.fetchall()


def test_answers_unlock_when_the_pair_was_seen_for_long_enough(
    voter: Voter, served: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    page = voter.page
    voter.context.add_init_script(f"({HIDE})(true)")  # so that no time passes
    page.reload()
    page.wait_for_selector("#right img")
    left = page.get_by_role("button", name="Left", exact=True)
    assert left.get_attribute("aria-disabled") == "true"
    page.keyboard.press("ArrowLeft")
    left.click(force=True)
    page.wait_for_timeout(100)
    assert question(voter) == "Which picture do you prefer?"
    page.evaluate(HIDE, False)
    trial = answer(voter, 1)
    voter.wait_for_pair(2)
    wait_until_sent(page)
    assert rows_of(trial, served, command, tmp_path)["preference"]["rt_ms"] >= 600


def test_time_stands_still_while_the_page_is_hidden_and_lost_focus_is_counted(
    voter: Voter, served: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    page = voter.page
    voter.wait_for_pair(1)
    revealed = moment(voter, "revealed")
    gone = page.evaluate(HIDE, True)
    page.wait_for_timeout(1000)
    back = page.evaluate(HIDE, False)
    page.evaluate("() => { dispatchEvent(new Event('blur')); dispatchEvent(new Event('blur')); }")
    trial = answer(voter, 1)
    after = page.evaluate("performance.now()")
    voter.wait_for_pair(2)
    wait_until_sent(page)
    rows = rows_of(trial, served, command, tmp_path)
    display = rows["preference"]["display"]
    assert back[0] - gone[1] - 1 <= display["hidden_ms"] <= back[1] - gone[0] + 1  # whole milliseconds
    seen = after - revealed - display["hidden_ms"] + 1
    assert gone[0] - revealed - 1 <= rows["preference"]["rt_ms"] < rows["words"]["rt_ms"] <= seen
    assert display["blurs"] == 2


def test_undo_goes_back_one_question_and_then_one_pair(voter: Voter) -> None:
    page = voter.page
    undo = page.get_by_role("button", name="Undo")
    voter.wait_for_pair(1)
    assert undo.get_attribute("aria-disabled") == "true"
    before = page.locator("#stage").bounding_box()
    page.keyboard.press("ArrowLeft")
    assert question(voter) == "Which fits the words better, leaving beauty aside?"
    assert page.get_by_role("button", name="Tie").is_hidden()
    assert page.locator("#stage").bounding_box() == before
    page.keyboard.press("Backspace")
    assert question(voter) == "Which picture do you prefer?"
    page.wait_for_timeout(250)
    trial = answer(voter, 1)
    voter.wait_for_pair(2)
    undo.click()
    voter.wait_for_pair(1)
    assert voter.trial() == trial
    assert page.get_by_text("Your last answer was taken back.").is_visible()
    assert undo.get_attribute("aria-disabled") == "true"


def test_undo_reaches_past_a_reload(
    voter: Voter, served: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    page = voter.page
    undo = page.get_by_role("button", name="Undo")
    trials = [answer(voter, number) for number in (1, 2)]
    voter.wait_for_pair(3)
    wait_until_sent(page)
    page.reload()
    for number in (2, 1):
        voter.wait_for_pair(number + 1)
        undo.click()
        voter.wait_for_pair(number)
        assert voter.trial() == trials[number - 1]
    assert undo.get_attribute("aria-disabled") == "true"
    assert answer(voter, 1, first="ArrowRight") == trials[0]
    voter.wait_for_pair(2)
    wait_until_sent(page)
    again = rows_of(trials[0], served, command, tmp_path)["preference"]
    assert (again["winner"], bool(again["supersedes"])) == ("model_b", True)
    assert again["display"]["reveals"] == 2
    page.reload()
    voter.wait_for_pair(2)
    assert voter.trial() == trials[1]


def test_a_break_is_offered_takes_no_time_and_can_be_undone(
    voter: Voter, served: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    page = voter.page
    for number in (1, 2, 3):
        answer(voter, number)
    page.get_by_role("heading", name="Time for a break").wait_for()
    assert page.locator("#break em").inner_text() == "well"
    page.keyboard.press("ArrowLeft")  # nothing is asked now
    page.keyboard.press("Backspace")
    answer(voter, 3)  # no second break
    voter.wait_for_pair(4)
    page.reload()
    assert page.get_by_role("button", name="Continue").evaluate("it => it === document.activeElement")
    rested = page.evaluate("() => new Promise(requestAnimationFrame)")  # frames bear the time they were due
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # and no answer
    voter.wait_for_pair(4)
    revealed = moment(voter, "revealed")
    assert revealed > rested
    trial = answer(voter, 4)
    voter.wait_for_pair(5)
    wait_until_sent(page)
    taken = rows_of(trial, served, command, tmp_path)["words"]["rt_ms"]
    assert taken == pytest.approx(moment(voter, "answered") - revealed, abs=2)


def test_a_pair_is_skipped_with_a_reason_by_keyboard(voter: Voter, served: Any) -> None:
    page = voter.page
    voter.wait_for_pair(1)
    trial = voter.trial()
    page.get_by_role("button", name="Skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")  # the second reason; no answer to the pair behind the dialog
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert count(voter).startswith("Pair 1 ")
    assert question(voter) == "Which picture do you prefer?"
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    voter.wait_for_pair(2)
    wait_until_sent(page)
    ((event, body),) = ended(served, trial)
    assert event == "skipped"
    assert '"reason": "not_shown"' in body or '"reason":"not_shown"' in body
    page.keyboard.press("Backspace")  # what is behind a skip stays
    page.wait_for_timeout(300)
    assert count(voter).startswith("Pair 2 ")


def test_either_picture_can_be_reported(voter: Voter, served: Any) -> None:
    page = voter.page
    for number, side in ((1, "Left picture"), (2, "Right picture")):
        voter.wait_for_pair(number)
        trial = voter.trial()
        page.get_by_role("button", name="Report", exact=True).click()
        page.get_by_role("button", name="Report it").click()
        assert page.locator("dialog[open]").count() == 1  # which one?
        page.get_by_label(side).check()
        page.get_by_label("Why?").fill("a face <b>like</b> mine")
        page.keyboard.press("1")  # a digit in a text is no answer
        page.get_by_role("button", name="Report it").click()
        voter.wait_for_pair(number + 1)
        wait_until_sent(page)
        ((event, _),) = ended(served, trial)
        assert event == "reported"
        with closing(sqlite3.connect(served.folder / "study.db")) as database:
            told = database.execute("SELECT side, reason FROM reports WHERE trial_id = ?", [trial]).fetchall()
        assert told == [(side.split()[0].lower(), "a face <b>like</b> mine1")]


def test_keys_that_type_characters_can_be_switched_off(voter: Voter) -> None:
    page = voter.page
    voter.wait_for_pair(1)
    page.get_by_role("button", name="Help").click()
    page.get_by_label("Letters, digits and signs work as keys").uncheck()
    page.get_by_role("button", name="Close").click()
    for key in ("1", "+", "f"):
        page.keyboard.press(key)
    assert question(voter) == "Which picture do you prefer?"
    assert page.locator("#zoom").inner_text() == "1×"
    page.reload()
    voter.wait_for_pair(1)
    page.keyboard.press("1")
    assert question(voter) == "Which picture do you prefer?"
    page.keyboard.press("ArrowLeft")
    assert question(voter) != "Which picture do you prefer?"


def test_looking_closer_needs_neither_two_fingers_nor_dragging(voter: Voter) -> None:
    page = voter.page
    voter.wait_for_pair(1)
    page.get_by_role("button", name="Zoom in").click()
    box = page.locator("#left img").bounding_box()
    page.get_by_role("button", name="Show what is further left").click()
    assert page.locator("#left img").bounding_box()["x"] > box["x"]
    page.get_by_role("button", name="Zoom out").click()
    assert page.locator("#zoom").inner_text() == "1×"


def test_back_and_forward_and_reload_lead_to_the_pair_that_is_open(voter: Voter) -> None:
    page = voter.page
    answer(voter, 1)
    voter.wait_for_pair(2)
    trial = voter.trial()
    page.keyboard.press("ArrowLeft")  # the first question only
    page.reload()
    voter.wait_for_pair(2)
    assert (voter.trial(), question(voter)) == (trial, "Which picture do you prefer?")
    page.get_by_role("button", name="Report", exact=True).click()
    page.reload()
    voter.wait_for_pair(2)
    wait_until_sent(page)
    page.go_back()
    page.get_by_role("link", name="Continue with pair 2").wait_for()
    page.go_forward()
    voter.wait_for_pair(2)
    assert voter.trial() == trial
    answer(voter, 2)
    voter.wait_for_pair(3)
    wait_until_sent(page)
    page.go_back()
    page.get_by_role("link", name="Continue with pair 3").wait_for()


def test_a_page_from_the_back_forward_cache_asks_the_server_where_it_is(voter: Voter) -> None:
    voter.wait_for_pair(1)
    with voter.page.expect_navigation():
        voter.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    voter.wait_for_pair(1)


@pytest.fixture(scope="module")
def large(
    serve: Callable[..., Any], build_gallery: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Pictures of 600 × 600 in a study that wants half of their pixels, and a window of 500 × 400."""
    gallery = build_gallery(tmp_path_factory.mktemp("g") / "gallery", prompts=2, size=(600, 600))
    return serve(gallery, toml="[display]\nmin_width = 500\nmin_height = 400\nmin_scale = 0.5\n")


def test_a_window_that_is_too_small_is_told_kindly_and_time_stands_still(
    browser: Any, large: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    voter = Voter(browser, large.address, viewport={"width": 400, "height": 900})
    page = voter.page
    page.goto(large.address)
    page.get_by_role("button", name="Start").click()
    gate = page.get_by_role("heading", name="This needs a larger window")
    gate.wait_for()
    assert page.get_by_text("500 × 400 pixels at least; this window has 400 × 900").is_visible()
    link = page.locator("#gate code").inner_text()
    assert link.startswith(f"{large.address}/r/")
    settle(page)
    page.wait_for_timeout(500)
    page.keyboard.press("ArrowLeft")
    assert count(voter).startswith("Pair 1 ")
    page.set_viewport_size({"width": 520, "height": 420})
    page.get_by_text("do not fit in here as large as the study asks for").wait_for()
    page.set_viewport_size({"width": 1000, "height": 700})
    gate.wait_for(state="hidden")
    voter.wait_for_pair(1)
    page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(2)
    wait_until_sent(page)
    (row,) = exported(command, large.folder, tmp_path / "v.jsonl")
    assert row["display"]["scale"] == 0.5
    assert row["display"]["hidden_ms"] >= 450
    elsewhere = Voter(browser, large.address, viewport={"width": 1000, "height": 700})
    elsewhere.page.goto(link)
    elsewhere.page.get_by_role("link", name="Continue with pair 2").click()
    elsewhere.wait_for_pair(2)
    elsewhere.context.close()
    voter.context.close()


def test_shrunk_pictures_have_a_whole_number_of_their_pixels_in_each_of_the_screens(
    browser: Any, large: Any
) -> None:
    voter = Voter(browser, large.address, viewport={"width": 1000, "height": 700})
    voter.start()

    def width() -> float:
        return voter.page.locator("#left img").bounding_box()["width"]

    assert width() == 300
    assert voter.page.locator("#left img.pixelated").count() == 0
    voter.page.get_by_role("button", name="Zoom in").click()
    assert width() == 600
    assert voter.page.locator("#left img.pixelated").count() == 1
    voter.page.get_by_role("button", name="Zoom in").click()
    assert width() == 1200
    voter.context.close()
