"""A person's way through a study, in a real browser."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import settle, wait_for_pair, wait_until_sent

pytestmark = pytest.mark.browser


class Voter:
    """A person at a browser, who remembers which picture they picked, and everything the browser got."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options) if hasattr(browser, "new_context") else browser
        self.page = self.context.new_page()
        self.address = address
        self.received: list[bytes] = []
        self.errors: list[str] = []
        self.picked: dict[str, str] = {}  # trial → sha256 of the picture, or "tie"
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def record(self) -> None:
        """From now on, keep every byte that the browser gets."""

        def pass_on(route: Any) -> None:
            response = route.fetch(max_redirects=0, max_retries=2)  # the server closes idle lines
            headers = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
            self.received += [response.url.encode(), headers.encode(), response.body()]
            route.fulfill(response=response)

        self.page.route("**/*", pass_on)

    def start(self) -> None:
        self.page.goto(self.address)
        self.page.get_by_role("button", name="Start").click()
        self.wait_for_pair(1)

    def wait_for_pair(self, number: int, page: Any = None) -> None:
        wait_for_pair(page or self.page, number)

    def trial(self, page: Any = None) -> str:
        return (page or self.page).locator("#left img").get_attribute("src").split("/")[2]

    def note(self, side: str) -> None:
        self.picked[self.trial()] = side if side == "tie" else self._shown(side)

    def _shown(self, side: str) -> str:
        source = self.page.locator(f"#{side} img").evaluate("image => image.src")
        return hashlib.sha256(self.context.request.get(source).body()).hexdigest()

    def press(self, key: str, side: str) -> None:
        self.note(side)
        self.page.keyboard.press(key)

    def click_picture(self, side: str) -> None:
        self.note(side)
        self.page.locator(f"#{side} img").click()

    def click_button(self, name: str, side: str) -> None:
        self.note(side)
        self.page.get_by_role("button", name=name).click()


def exported(command: Callable[..., str], folder: Path, out: Path) -> list[dict[str, Any]]:
    command("study", "export", "--study", folder, "-o", out)
    return [json.loads(line) for line in out.read_text().splitlines()]


def picked_in(row: dict[str, Any]) -> str:
    return {"model_a": row["served_a"], "model_b": row["served_b"]}.get(row["winner"], row["winner"])


def test_votes_of_a_session_are_exactly_those_exported_and_rated(
    browser: Any,
    serve: Callable[..., Any],
    command: Callable[..., str],
    gallery: Path,
    method_words: list[bytes],
    tmp_path: Path,
) -> None:
    served = serve(gallery)
    voter = Voter(browser, served.address, viewport={"width": 1280, "height": 800})
    voter.record()
    voter.start()
    steps: list[Callable[[], None]] = [
        lambda: voter.press("ArrowLeft", "left"),
        lambda: voter.press("ArrowRight", "right"),
        lambda: voter.press("ArrowDown", "tie"),
        lambda: voter.click_picture("left"),
        lambda: voter.click_picture("right"),
        lambda: voter.click_button("Left", "left"),
        lambda: voter.click_button("Tie", "tie"),
        lambda: voter.click_button("Right", "right"),
        lambda: voter.press("1", "left"),
        lambda: voter.press("3", "right"),
    ]
    for number, step in enumerate(steps, start=1):
        voter.wait_for_pair(number)
        assert voter.page.locator("#count").inner_text().startswith(f"Pair {number} ")
        if number == 5:  # a reload goes on where it was
            before = voter.trial()
            voter.page.reload()
            voter.wait_for_pair(number)
            assert voter.trial() == before
        step()
    voter.wait_for_pair(11)
    wait_until_sent(voter.page)

    rows = exported(command, served.folder, tmp_path / "votes.jsonl")
    assert {row["trial_id"]: picked_in(row) for row in rows} == voter.picked
    assert len(rows) == 10
    assert all(row["rt_ms"] >= 200 for row in rows)
    display = rows[0]["display"]
    assert 0 <= display.pop("decode_ms") < 5000
    assert 0 <= display.pop("paint_ms") < 5000
    assert display == {
        "dpr": 1.0,
        "scale": 9.0,
        "viewport": [1280, 800],
        "layout": "row",
        "input": "key",
        "hidden_ms": 0,
        "blurs": 0,
        "reveals": 1,
        "language": "en",
        "inspection": {"zoom": 0, "pan": 0, "flip": 0, "largest": 1},
    }

    rated = json.loads(command("elo", "compute", tmp_path / "votes.jsonl", "--bootstrap", "0", "--json"))
    wins = Counter(row[row["winner"]] for row in rows if row["winner"] != "tie")
    assert {row["method"]: row["wins"] for row in rated["ratings"]} == {
        row["method"]: wins[row["method"]] for row in rated["ratings"]
    }
    assert sum(row["votes"] for row in rated["ratings"]) == 20

    assert voter.errors == []
    everything = b"\n".join(voter.received).lower()
    assert len(voter.received) > 100
    assert [word for word in method_words if word in everything] == []
    voter.context.close()


def test_a_double_click_is_one_vote(
    browser: Any, serve: Callable[..., Any], command: Callable[..., str], gallery: Path, tmp_path: Path
) -> None:
    served = serve(gallery)
    voter = Voter(browser, served.address)
    voter.start()
    voter.page.locator("#left img").dblclick()
    voter.wait_for_pair(2)
    voter.page.get_by_role("button", name="Right").dblclick()
    voter.wait_for_pair(3)
    bounce = "dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}));"
    voter.page.evaluate(f"() => {{ {bounce} {bounce} }}")
    voter.wait_for_pair(4)
    voter.page.get_by_role("button", name="Left", exact=True).focus()
    for _ in range(4):  # a key that is held
        voter.page.keyboard.down("Enter")
        voter.page.wait_for_timeout(250)
    voter.page.keyboard.up("Enter")
    voter.wait_for_pair(5)
    wait_until_sent(voter.page)
    assert len(exported(command, served.folder, tmp_path / "votes.jsonl")) == 4
    voter.context.close()


def test_the_whole_session_ends_kindly(
    browser: Any, serve: Callable[..., Any], command: Callable[..., str], build_gallery: Any, tmp_path: Path
) -> None:
    served = serve(build_gallery(tmp_path / "small", prompts=2))
    voter = Voter(browser, served.address)
    voter.start()
    for number in range(1, 7):
        voter.wait_for_pair(number)
        voter.press("ArrowLeft", "left")
    voter.page.wait_for_url("**/done")
    assert voter.page.get_by_role("heading", name="Thank you!").is_visible()
    voter.page.goto(f"{served.address}/vote")
    assert voter.page.url.endswith("/done")
    assert len(exported(command, served.folder, tmp_path / "votes.jsonl")) == 6
    assert voter.errors == []
    voter.context.close()


@pytest.mark.parametrize("pixels", [(64, 64), (1024, 1024), (512, 768)])
def test_a_pair_fits_every_window_and_is_enlarged_by_a_whole_factor(
    browser: Any, serve: Callable[..., Any], build_gallery: Any, tmp_path: Path, pixels: tuple[int, int]
) -> None:
    served = serve(build_gallery(tmp_path / "g", prompts=1, size=pixels, text="a long prompt " * 12))
    voter = Voter(browser, served.address)
    voter.start()
    for width, height in ((320, 640), (390, 844), (844, 390), (1440, 900)):
        voter.page.set_viewport_size({"width": width, "height": height})
        voter.page.wait_for_function(
            "size => innerWidth === size[0] && innerHeight === size[1]", arg=[width, height]
        )
        settle(voter.page)
        seen = voter.page.evaluate(
            """() => {
                const box = (element) => {
                    const {left, top, right, bottom} = element.getBoundingClientRect();
                    return [left, top, right, bottom];
                };
                const page = document.documentElement;
                return {
                    page: [page.scrollWidth, page.scrollHeight],
                    stage: box(document.querySelector("#stage")),
                    images: [...document.querySelectorAll("#stage img")].map(box),
                };
            }"""
        )
        assert seen["page"] == [width, height]
        for left, top, right, bottom in seen["images"]:
            assert left >= seen["stage"][0] and top >= seen["stage"][1]
            assert right <= seen["stage"][2] and bottom <= seen["stage"][3]
            scale = (right - left) / pixels[0]
            assert abs((bottom - top) / pixels[1] - scale) < 0.01
            assert scale < 1 or scale == int(scale)
            assert right - left >= 64
    voter.context.close()
