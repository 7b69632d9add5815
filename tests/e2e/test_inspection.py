"""Looking closely: exact pixels at any device pixel ratio, zoom and pan of both pictures, the flip."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import wait_until_sent
from tests.e2e.test_voting import Voter, exported

pytestmark = pytest.mark.browser

ONE_PAIR = {"methods": ("fp16", "naive-w4a4"), "prompts": 3}


@pytest.fixture
def voter(browser: Any, serve: Callable[..., Any], build_gallery: Any, tmp_path: Path) -> Any:
    served = serve(build_gallery(tmp_path / "g", **ONE_PAIR))
    voter = Voter(browser, served.address, viewport={"width": 1280, "height": 800})
    voter.folder = served.folder
    voter.start()
    yield voter
    assert voter.errors == []
    voter.context.close()


def shown(voter: Voter) -> list[dict[str, Any]]:
    """Source and zoom of the pictures in both places, and how far their middle is from the place's."""
    return voter.page.evaluate(
        """() => ["left", "right"].map((name) => {
            const place = document.getElementById(name), image = place.querySelector("img");
            const [outer, inner] = [place, image].map((element) => element.getBoundingClientRect());
            const middle = ({left, top, width, height}) => [left + width / 2, top + height / 2];
            const [x, y] = middle(inner).map((at, i) => Math.round(at - middle(outer)[i]));
            return {source: image.src, zoom: Math.round(inner.width / outer.width), x, y};
        })"""
    )


def middle(voter: Voter, side: str) -> tuple[float, float]:
    box = voter.page.locator(f"#{side}").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_both_pictures_zoom_and_pan_as_one_and_uses_are_counted(
    voter: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    x, y = middle(voter, "left")
    voter.page.mouse.move(x + 100, y)
    voter.page.mouse.wheel(0, -120)
    voter.page.locator("#zoom").get_by_text("2×").wait_for()
    voter.page.keyboard.press("+")
    left, right = shown(voter)
    assert left["zoom"] == right["zoom"] == 3
    assert (left["x"], left["y"]) == (right["x"], right["y"]) != (0, 0)
    assert voter.page.locator("#zoom").inner_text() == "3×"

    voter.page.mouse.down()
    voter.page.mouse.move(x + 60, y + 30, steps=5)
    voter.page.mouse.up()
    panned = shown(voter)
    assert panned[0]["x"] < left["x"] and panned[0]["y"] > left["y"]
    assert (panned[0]["x"], panned[0]["y"]) == (panned[1]["x"], panned[1]["y"])
    voter.page.keyboard.press("Shift+ArrowUp")
    assert shown(voter)[0]["y"] > panned[0]["y"]

    voter.page.keyboard.press("0")
    assert [one["zoom"] for one in shown(voter)] == [1, 1]
    voter.page.keyboard.down("f")
    voter.page.keyboard.up("f")
    assert voter.page.locator("#count").inner_text().startswith("Pair 1 ")  # none of it was an answer
    voter.page.keyboard.press("ArrowLeft")
    voter.wait_for_pair(2)
    wait_until_sent(voter.page)
    (row,) = exported(command, voter.folder, tmp_path / "votes.jsonl")
    assert row["display"]["inspection"] == {"zoom": 3, "pan": 2, "flip": 1, "largest": 3}
    assert [one["zoom"] for one in shown(voter)] == [1, 1]  # the next pair begins plain


def test_a_held_key_or_press_shows_the_other_picture_in_place(voter: Any) -> None:
    left, right = (one["source"] for one in shown(voter))
    voter.page.keyboard.down("f")
    assert [one["source"] for one in shown(voter)] == [right, left]
    voter.page.keyboard.press("ArrowLeft")  # left is not left now: no answer
    voter.page.keyboard.up("f")
    assert [one["source"] for one in shown(voter)] == [left, right]

    voter.page.mouse.move(*middle(voter, "right"))
    voter.page.mouse.down()
    voter.page.wait_for_function("source => document.querySelector('#left img').src === source", arg=right)
    assert [one["source"] for one in shown(voter)] == [right, left]
    voter.page.mouse.up()
    assert [one["source"] for one in shown(voter)] == [left, right]
    assert voter.page.locator("#count").inner_text().startswith("Pair 1 ")
    voter.page.mouse.click(*middle(voter, "right"))  # a short press is an answer
    voter.wait_for_pair(2)


def test_pictures_pan_only_as_far_as_they_reach(voter: Any) -> None:
    for _ in range(9):
        voter.page.keyboard.press("+")
    size = voter.page.locator("#left").bounding_box()["width"]
    for _ in range(60):
        voter.page.keyboard.press("Shift+ArrowLeft")
    assert shown(voter)[0] | {"source": ""} == {"source": "", "zoom": 8, "x": 7 * size / 2, "y": 0}


def test_two_fingers_zoom(voter: Any) -> None:
    """Pinching is sent as raw touches, which Playwright has no word for."""
    session = voter.context.new_cdp_session(voter.page)
    x, y = middle(voter, "left")

    def touch(kind: str, *distances: float) -> None:
        points = [{"x": x + way * d, "y": y, "id": i} for d in distances for i, way in enumerate((-1, 1))]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 20)
    for distance in (30, 50, 80):
        touch("touchMove", distance)
    touch("touchEnd")
    assert [one["zoom"] for one in shown(voter)] == [4, 4]
    assert voter.page.locator("#count").inner_text().startswith("Pair 1 ")


@pytest.mark.parametrize("ratio", [1, 1.5, 2, 3])
@pytest.mark.parametrize("size", [(64, 64), (256, 256)])
def test_every_picture_pixel_is_a_square_of_device_pixels(
    browser: Any,
    serve: Callable[..., Any],
    build_gallery: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    size: tuple[int, int],
) -> None:
    """Read off a screenshot of a checkerboard: only its two colours, in squares of one whole size."""
    checks = (np.indices(size).sum(0) % 2 * 255).astype(np.uint8)

    def checkerboard(method: str, prompt: str, size: tuple[int, int]) -> Image.Image:
        # The two methods' boards are each other's negative, since equal pictures are no pair.
        return Image.fromarray(checks if method == "fp16" else 255 - checks).convert("RGB")

    monkeypatch.setattr("tests.conftest.draw", checkerboard)
    served = serve(build_gallery(tmp_path / "g", size=size, **ONE_PAIR))
    viewport = {"width": 1000, "height": 700}
    voter = Voter(browser, served.address, viewport=viewport, device_scale_factor=ratio)
    voter.start()
    for zoom in (1, 3):
        if zoom > 1:
            voter.page.keyboard.press("+")
            voter.page.keyboard.press("+")
        # The whole window, cut by hand: a screenshot of a place that begins between CSS pixels is resampled.
        window = np.asarray(
            Image.open(io.BytesIO(voter.page.screenshot(scale="device"))).convert("L")
        ).astype(int)
        for side in ("left", "right"):
            box = voter.page.locator(f"#{side}").bounding_box()
            x, y, right, bottom = (
                round(ratio * at)
                for at in (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
            )
            assert (right - x) % size[0] == (bottom - y) % size[1] == 0
            # The outermost row may be blended with the surround, where the browser smooths edges.
            pixels = window[y + 2 : bottom - 2, x + 2 : right - 2]
            assert set(np.unique(pixels)) == {0, 255}, (zoom, side)
            for line in (pixels[len(pixels) // 2], pixels[:, len(pixels) // 2]):
                runs = np.diff(np.flatnonzero(np.diff(line)))
                assert len(set(runs)) == 1, (zoom, side, sorted(set(runs)))
            assert runs[0] % zoom == 0
    voter.context.close()


@pytest.mark.parametrize("n", [2, 4])
def test_of_pictures_that_are_too_large_n_by_n_pixels_are_averaged(
    browser: Any,
    serve: Callable[..., Any],
    build_gallery: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n: int,
) -> None:
    """Noise on a screenshot is what averaging n × n of its pixels by hand gives."""
    noise = {
        method: np.random.default_rng(seed).integers(0, 256, (600, 600)).astype(np.uint8)
        for seed, method in enumerate(ONE_PAIR["methods"])
    }
    monkeypatch.setattr(
        "tests.conftest.draw", lambda method, prompt, size: Image.fromarray(noise[method]).convert("RGB")
    )
    served = serve(build_gallery(tmp_path / "g", size=(600, 600), **ONE_PAIR))
    voter = Voter(browser, served.address, viewport={"width": 1700 // n, "height": 1500 // n})
    voter.start()
    window = np.asarray(Image.open(io.BytesIO(voter.page.screenshot())).convert("L")).astype(float)
    averages = [image.reshape(600 // n, n, 600 // n, n).mean((1, 3)) for image in noise.values()]
    distances = []
    for side in ("left", "right"):
        box = voter.page.locator(f"#{side}").bounding_box()
        x, y = round(box["x"]), round(box["y"])
        shown = window[y : y + 600 // n, x : x + 600 // n]
        inside = (slice(2, -2), slice(2, -2))  # the edge may be blended with the surround
        distances.append([np.abs(shown - average)[inside].max() for average in averages])
    assert {int(np.argmin(row)) for row in distances} == {0, 1}
    assert max(min(row) for row in distances) <= 2
    voter.context.close()


def test_the_record_tells_the_scale_in_device_pixels(
    browser: Any, serve: Callable[..., Any], build_gallery: Any, command: Callable[..., str], tmp_path: Path
) -> None:
    served = serve(build_gallery(tmp_path / "g", size=(100, 100), **ONE_PAIR))
    voter = Voter(browser, served.address, viewport={"width": 700, "height": 600}, device_scale_factor=2)
    voter.start()
    width = voter.page.locator("#left img").bounding_box()["width"]
    voter.page.keyboard.press("ArrowRight")
    voter.wait_for_pair(2)
    wait_until_sent(voter.page)
    (row,) = exported(command, served.folder, tmp_path / "votes.jsonl")
    assert row["display"]["scale"] == width * 2 / 100 == int(width * 2 / 100)
    assert json.dumps(row["display"])  # plain JSON all through
    voter.context.close()
