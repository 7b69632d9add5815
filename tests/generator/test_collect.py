import json

import pytest
from click.testing import CliRunner
from PIL import Image

from generator.cli import cli
from generator.collect import CollectError, prompts_of_qsched
from study import gallery


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)


def collect(out, *arguments):
    return CliRunner().invoke(cli, ["collect", *map(str, arguments), "-o", str(out)])


def test_deepcompressors_folders_become_a_gallery(tmp_path):
    """samples/MJHQ/MJHQ-<n>/<id>.png for each model, the prompts of meta_data.json, a subset of them."""
    meta = {f"{i:03x}": {"category": "food", "prompt": f"dish {i}"} for i in range(20)}
    (tmp_path / "meta_data.json").write_text(json.dumps(meta))
    for k, method in enumerate(("bf16", "svdq-int4")):
        for i, id_ in enumerate(meta):
            picture(tmp_path / method / "samples/MJHQ/MJHQ-20" / f"{id_}.png", 10 * i + k)
    folders = [f"--images={m}={tmp_path / m / 'samples/MJHQ/MJHQ-20'}" for m in ("bf16", "svdq-int4")]
    result = collect(tmp_path / "g", *folders, "--prompts", f"mjhq={tmp_path / 'meta_data.json'}", "-n", 5)
    assert result.exit_code == 0, result.output
    found = gallery.read_gallery(tmp_path / "g")
    sampled = CliRunner().invoke(
        cli, ["prompts", "sample", f"mjhq={tmp_path / 'meta_data.json'}", "-n", "5", "--json"]
    )
    assert [p.prompt_id for p in found.prompts] == [
        json.loads(line)["prompt_id"] for line in sampled.stdout.splitlines()
    ]
    for row in found.images:
        red = Image.open(tmp_path / "g" / row.file).getpixel((0, 0))[0]
        assert red == 10 * int(row.prompt_id, 16) + (row.method == "svdq-int4")


def test_deepcompressors_yaml_folders_have_a_number_behind_the_id(tmp_path):
    (tmp_path / "qdiff.yaml").write_text("'0000': a cat\n'0001': a dog\n")
    for i in range(2):
        picture(tmp_path / "YAML/qdiff-2" / f"000{i}-0.png", i)
    result = collect(
        tmp_path / "g", f"--images=fp16={tmp_path / 'YAML/qdiff-2'}", "--prompts", tmp_path / "qdiff.yaml"
    )
    assert result.exit_code == 0, result.output
    assert [row.prompt_id for row in gallery.read_gallery(tmp_path / "g").images] == ["0000", "0001"]


PROMPTS = 'image_id,prompt\n0_0,a cat, sitting\n1_0,two\nlines, 5_0 of them\n2_0,"quoted"\n'


def of_qsched(folder, quantization, texts=PROMPTS):
    for i in range(3):
        picture(folder / "dataset" / f"{quantization}_{i}_0.png", i)
    (folder / "prompts.txt").write_text(texts)
    return folder


def test_qscheds_folders_become_a_gallery_with_their_own_prompts(tmp_path):
    folders = {name: of_qsched(tmp_path / name, name) for name in ("fp16", "w4a8")}
    result = collect(tmp_path / "g", *(f"--images={name}={path}" for name, path in folders.items()))
    assert result.exit_code == 0, result.output
    found = gallery.read_gallery(tmp_path / "g")
    assert [p.text for p in found.prompts] == ["a cat, sitting", "two\nlines, 5_0 of them", '"quoted"']
    assert {(row.method, row.prompt_id) for row in found.images} == {
        (method, f"{i}_0") for method in folders for i in range(3)
    }
    assert found.software["collected_from"]["w4a8"].endswith("w4a8")


@pytest.mark.parametrize(
    ("texts", "message"),
    [("0_0,a cat\n", r"line 1: found '0_0,a cat'"), ("image_id,prompt\n", "holds no prompts")],
)
def test_faulty_prompts_of_qsched_are_named(tmp_path, texts, message):
    with pytest.raises(CollectError, match=message):
        prompts_of_qsched(of_qsched(tmp_path / "q", "fp16", texts))


def test_what_makes_no_gallery_is_bad_input_and_writes_nothing(tmp_path):
    one = of_qsched(tmp_path / "one", "fp16")
    other = of_qsched(tmp_path / "other", "w4a8")
    (other / "dataset" / "w4a8_1_0.png").unlink()
    bad = of_qsched(tmp_path / "bad", "w4a8")
    (bad / "dataset" / "w4a8_1_0.png").write_bytes(b"PNG")
    twice = of_qsched(tmp_path / "twice", "w4a8")
    picture(twice / "dataset" / "w8a8_1_0.png", 0)
    for second, message in (
        (f"b={other}", "has no picture of prompt '1_0' (1 missing of 3)"),
        (f"b={bad}", "w4a8_1_0.png: no readable picture"),
        (f"b={twice}", "are of one prompt"),
        (f"b={tmp_path / 'none'}", "no such folder"),
        (f"a={other}", "expected METHOD=FOLDER, each method once"),
        ("b", "expected METHOD=FOLDER"),
        (f"b b={one}", """--images: field 'id': found "b b"; string should match"""),
    ):
        result = collect(tmp_path / "g", f"--images=a={one}", f"--images={second}")
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert not (tmp_path / "g").exists()
    assert collect(one, f"--images=a={one}").exit_code == 2


def test_what_is_interrupted_leaves_no_gallery_and_can_be_done_again(tmp_path, monkeypatch):
    one = of_qsched(tmp_path / "one", "fp16")
    (tmp_path / "g").mkdir()
    rows = []

    def interrupted(*_):
        rows.append(1)
        if len(rows) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gallery, "append_image", interrupted)
        assert collect(tmp_path / "g", f"--images=a={one}").exit_code == 1
    assert not list((tmp_path / "g").iterdir())
    assert collect(tmp_path / "g", f"--images=a={one}").exit_code == 0
    assert len(gallery.read_gallery(tmp_path / "g").images) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"one", "g"}
