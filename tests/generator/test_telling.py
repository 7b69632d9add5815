"""What a run tells: its plan, a line a minute, its log."""

import json
from types import SimpleNamespace

import numpy as np
import small_run as small
import torch

from generator import sweep
from generator.methods import all_methods
from generator.models import ENTRIES, of_entry


def test_a_plan_counts_what_is_missing_and_writes_nothing(made, tmp_path):
    plan = sweep.plan(small.model(), small.METHODS, small.PROMPTS, tmp_path / "g", 3)
    assert (plan.images, plan.done, plan.nfe, plan.measured) == (small.TOTAL, 0, 2, "plain")
    assert plan.bytes == np.mean([len((made / f"images/plain/p{i}.png").read_bytes()) for i in range(3)])
    assert not (tmp_path / "g").exists()
    blue = small.method("blue")
    plan = sweep.plan(small.model(), [*small.METHODS, blue], small.PROMPTS, made, 3)
    assert (plan.images, plan.done, plan.measured) == (7, small.TOTAL, "blue")
    assert plan.lines()[:2] == ["images: 7 to draw, 14 done", "evaluations of the backbone: 14, 2 an image"]


def test_a_plan_counts_the_encoded_texts(tiny, tmp_path):
    base = of_entry(tiny(ENTRIES["sdxl-turbo"], steps=2))
    plan = sweep.plan(base, [all_methods()["fp16"]], small.PROMPTS, tmp_path / "g", 7)
    numbers = 7 * (77 * 32 + 16)  # float32: of each prompt 77 tokens of both encoders, and one pooled
    assert 4 * numbers < plan.text_bytes < 4 * numbers + 500


def test_without_a_terminal_there_is_a_line_a_minute(tmp_path, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 20))  # every look at it takes 20 s
    monkeypatch.setattr(sweep.progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    small.run(tmp_path / "g")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == small.TOTAL // 3
    assert lines[0] == "plain: 3 of 14 images, 0.05 images/s, 0:03:40 left"
    assert lines[-1].startswith("red: 12 of 14 images")


def test_the_log_says_what_happened(made):
    events = [json.loads(line) for line in (made / ".run" / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "method", "method", "end"]
    assert events[0]["model"] == "noise" and events[0]["torch"] == torch.__version__.split("+")[0]
    assert events[-1]["images"] == small.TOTAL
