"""Shared fixtures: small synthetic galleries and fresh studies."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from study.gallery import ImageRecord, Method, Prompt, append_image, write_gallery_json, write_prompts

METHODS = ("fp16", "naive-w4a4", "qsched-w4a8")
LABELS = {"fp16": "Full precision", "naive-w4a4": "Round to nearest", "qsched-w4a8": "Q-Sched W4A8"}

# The same examples every time, however slow the machine is; others with --hypothesis-profile=explore.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("tests", derandomize=True, **PATIENT)
settings.register_profile("explore", **PATIENT)
settings.load_profile("tests")


def draw(method: str, prompt: str, size: tuple[int, int]) -> Image.Image:
    """A picture that is the same for the same names and different for others."""
    digest = hashlib.sha256(f"{method}/{prompt}".encode()).digest()
    image = Image.new("RGB", size, tuple(digest[:3]))
    pen = ImageDraw.Draw(image)
    x, y = digest[3] % (size[0] // 2), digest[4] % (size[1] // 2)
    pen.ellipse((x, y, x + size[0] // 2, y + size[1] // 2), fill=tuple(digest[5:8]))
    pen.line((0, digest[8] % size[1], size[0], digest[9] % size[1]), fill=tuple(digest[10:13]), width=3)
    return image


def make_gallery(
    folder: Path,
    methods: Sequence[str] = METHODS,
    prompts: int = 6,
    size: tuple[int, int] = (64, 64),
    text: str = "a striped red circle above a blue star, number {}",
) -> Path:
    """Write a gallery of plain pictures."""
    write_gallery_json(
        folder,
        name="synthetic",
        created="2026-11-21T12:00:00Z",
        prompt_set="test",
        software={"pillow": "any"},
        methods=[
            Method(id=m, label=LABELS.get(m, m), base_model="circles", size_bytes=10**6 * (i + 1))
            for i, m in enumerate(methods)
        ],
    )
    ids = [f"{number:04d}" for number in range(prompts)]
    write_prompts(folder, [Prompt(prompt_id=i, text=text.format(i), category="shapes") for i in ids])
    for method in methods:
        (folder / "images" / method).mkdir(parents=True)
        for prompt in ids:
            file = folder / "images" / method / f"{prompt}.png"
            draw(method, prompt, size).save(file)
            append_image(
                folder,
                ImageRecord(
                    method=method,
                    prompt_id=prompt,
                    file=str(file.relative_to(folder)),
                    sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                    width=size[0],
                    height=size[1],
                ),
            )
    return folder


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of three methods and six prompts; read only."""
    return make_gallery(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="session")
def build_gallery() -> Callable[..., Path]:
    """`make_gallery`, for tests that want another gallery or want to spoil one."""
    return make_gallery


@pytest.fixture(scope="session")
def method_words() -> list[bytes]:
    """What must never reach a voter: ids and labels of methods, and the words they are made of."""
    words = {*METHODS, *LABELS.values(), "qsched", "naive", "w4a8", "w4a4", "fp16"}
    return sorted(word.lower().encode() for word in words)
