"""What the methods of a run share: encoded texts, and backbones."""

from collections import Counter

import pytest
import small_run as small

from generator import sweep
from generator.methods import all_methods
from generator.models import ENTRIES, MODELS, of_entry
from generator.prompts import shapes_prompts, subset
from generator.sweep.recorder import png
from study import gallery

BASE, METHODS = MODELS["shapes"], all_methods()
PROMPTS = subset(shapes_prompts(), 3)


@pytest.mark.parametrize(
    "id_", ["sd14-ddim-10", "sdxl-turbo", "lcm-dreamshaper-2", "flux-schnell", "pcm-sd15-2"]
)
def test_texts_are_encoded_once_and_draw_the_same_pictures(tiny, tmp_path, monkeypatch, id_):
    base = of_entry(tiny(ENTRIES[id_], steps=2))
    prompts = [
        p.model_copy(update={"text": text})
        for p, text in zip(small.PROMPTS[:2], ("fox", "two dogs"), strict=True)
    ]
    methods = [METHODS[name] for name in ("fp16", "w8a8")]
    encoded = Counter()
    for kind, encode in list(sweep.conditions.ENCODERS.items()):

        def counted(pipeline, base, texts, encode=encode):
            encoded.update(texts)
            return encode(pipeline, base, texts)

        monkeypatch.setitem(sweep.conditions.ENCODERS, kind, counted)
    sweep.run(base, methods, prompts, tmp_path / "g", prompt_set="two", batch_size=2)
    assert encoded == {"fox": 1, "two dogs": 1}
    for method in methods:
        pipeline = base.load()
        method.apply(pipeline, base)
        for prompt, pixels in zip(prompts, sweep.draw(pipeline, base, prompts).pixels, strict=True):
            assert (tmp_path / "g/images" / method.id / f"{prompt.prompt_id}.png").read_bytes() == png(pixels)


def test_a_method_that_changes_the_text_encoder_gets_texts_of_its_own(tiny, tmp_path):
    base = of_entry(tiny(ENTRIES["sdxl-turbo"], steps=2))

    def deaf(pipeline, base):
        for parameter in pipeline.text_encoder_2.parameters():
            parameter.data *= 0.5

    methods = [METHODS["fp16"], small.Method("deaf", "deaf", 16, 16, "", deaf)]
    sweep.run(base, methods, small.PROMPTS[:1], tmp_path / "g", prompt_set="one")
    pictures = small.files(tmp_path / "g")
    assert pictures["images/fp16/p0.png"] != pictures["images/deaf/p0.png"]


def test_a_backbone_is_made_once_for_all_methods_over_it(made, tmp_path):
    loaded, red = [], small.METHODS[1]
    base = small.model(load=lambda: loaded.append(1) or small.Pipeline())

    def put_on(pipeline, base):
        pipeline.scheduler = "other"

    over = small.method("over-red", 0.5, over=red, put_on=put_on)
    small.run(tmp_path / "g", [red, small.METHODS[0], over], base=base)
    assert len(loaded) == 2
    rows = gallery.read_images(tmp_path / "g")
    assert list(dict.fromkeys(row.method for row in rows)) == ["red", "over-red", "plain"]
    assert {row.method: row.scheduler for row in rows}["over-red"] == "str"
    assert {row.method: row.scheduler for row in rows}["red"] == "SimpleNamespace"
    assert [m.id for m in gallery.read_gallery(tmp_path / "g").methods] == ["red", "plain", "over-red"]
    assert small.files(tmp_path / "g").items() >= small.files(made).items()


@pytest.mark.parametrize("name", ["qsched-w4a8", "ptqd-w4a8"])
def test_methods_over_another_draw_the_same_after_it_as_alone(tmp_path, name):
    alone, methods = BASE.load(), [METHODS["w4a8"], METHODS[name]]
    METHODS[name].apply(alone, BASE)
    sweep.run(BASE, methods, PROMPTS, tmp_path / "g", prompt_set="shapes", batch_size=3)
    for prompt, pixels in zip(PROMPTS, sweep.draw(alone, BASE, PROMPTS).pixels, strict=True):
        assert (tmp_path / "g/images" / name / f"{prompt.prompt_id}.png").read_bytes() == png(pixels)
