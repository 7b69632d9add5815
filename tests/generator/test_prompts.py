import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from generator.prompts import Fields, PromptError, load_prompts, noise_seed, read_prompts, subset
from generator.prompts.sets import SETS, found
from generator.prompts.unfit import fit, read_words
from generator.prompts_cli import WRITERS
from study.gallery import Prompt

REAL = Path(__file__).parents[3] / "shared" / "prompts"


def test_noise_seed_gives_deepcompressors_values():
    assert noise_seed("0000") == 1477632
    assert noise_seed("00001") == 45806641


@given(st.text(alphabet="abcXYZ019_-", min_size=1, max_size=64))
def test_noise_seed_is_the_polynomial_of_its_docstring(prompt_id):
    h = sum(ord(c) * 31 ** (len(prompt_id) - 1 - i) for i, c in enumerate(prompt_id))
    assert noise_seed(prompt_id) == h % (10**9 + 7)


def prompts(n):
    return [Prompt(prompt_id=f"{i:04d}", text=f"picture {i}") for i in range(n)]


def test_subset_follows_the_published_rule_and_small_ones_nest_in_large_ones():
    ids = [p.prompt_id for p in prompts(100)]
    random.Random(0).shuffle(ids)
    small, large = ({p.prompt_id for p in subset(prompts(100), n)} for n in (10, 40))
    assert small == set(ids[:10])
    assert small < large
    assert [p.prompt_id for p in subset(prompts(100), 40)] == sorted(large)


def test_subset_of_too_few_prompts_says_both_numbers():
    with pytest.raises(PromptError, match=r"11 prompts asked for, but the set has 10"):
        subset(prompts(10), 11)


# ---------------------------------------------------------------- files


def read(tmp_path, name, content, **fields):
    (tmp_path / name).write_text(content)
    return [(p.prompt_id, p.text, p.category) for p in read_prompts(tmp_path / name, Fields(**fields))]


def test_the_same_prompts_in_every_kind_of_file(tmp_path):
    expected = [("a-1", 'say "cheese"', "food"), ("b", "a dog, running", None)]
    rows = [{"id": i, "Prompt": t, "Category": c} for i, t, c in expected]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert [(p.prompt_id, p.text, p.category) for p in read_prompts(tmp_path / "p.parquet")] == expected
    csv = 'id,Prompt,Category\na-1,"say ""cheese""",food\nb,"a dog, running",\n'
    assert read(tmp_path, "p.csv", csv) == expected
    tsv = 'id\tPrompt\tCategory\na-1\tsay "cheese"\tfood\nb\ta dog, running\t\n'
    assert read(tmp_path, "p.tsv", tsv) == expected
    assert read(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows)) == expected
    assert read(tmp_path, "p.json", json.dumps(rows)) == expected
    assert read(tmp_path, "p.yaml", yaml.safe_dump(rows)) == expected
    by_id = {row.pop("id"): row for row in rows}
    assert read(tmp_path, "p.json", json.dumps(by_id)) == expected
    assert read(tmp_path, "p.yml", yaml.safe_dump(by_id)) == expected


def test_entries_without_an_id_get_their_number(tmp_path):
    assert read(tmp_path, "p.txt", "a cat\r\n\n a dog\n") == [
        ("0000", "a cat", None),
        ("0001", "a dog", None),
    ]
    many = read(tmp_path, "p.json", json.dumps([f"picture {i}" for i in range(10_001)]))
    assert (many[0][0], many[-1][0]) == ("00000", "10000")


def test_fields_with_other_names_are_named(tmp_path):
    row = '{"nr": 7, "instruction": "a cat", "prompt": "x", "kind": "animals"}\n'
    named = {"id": "nr", "text": "instruction", "category": "kind"}
    assert read(tmp_path, "p.jsonl", row, **named) == [("7", "a cat", "animals")]


def test_the_layouts_of_the_published_sets(tmp_path):
    mjhq = '{"0a": {"category": "logo", "prompt": "x"}, "00": {"category": "food", "prompt": "y"}}'
    assert read(tmp_path, "meta_data.json", mjhq) == [("0a", "x", "logo"), ("00", "y", "food")]
    assert read(tmp_path, "sDCI.yaml", "sa_1: a long text\nsa_2: 'yes'\n")[1] == ("sa_2", "yes", None)
    captions = ',file_name,captions\n132871,a.jpg,Green\n5,b.jpg,"Two\nlines"\n'
    assert read(tmp_path, "coco.csv", captions) == [("132871", "Green", None), ("5", "Two\nlines", None)]


def test_coco_takes_the_captions_that_deepcompressor_takes(tmp_path):
    def image(name, split):
        return {
            "filename": f"{name}.jpg",
            "split": split,
            "sentences": [{"raw": f"{name} {i}"} for i in range(5)],
        }

    names = [f"COCO_val2014_{i:012d}" for i in (42, 7)]
    images = [image(names[0], "val"), image("COCO_train2014_1", "train"), image(names[1], "val")]

    def number(name):  # the Horner form, as deepcompressor has it
        h = 0
        for c in name:
            h = (h * 31 + ord(c)) % 1_000_000_007
        return h % 5

    expected = [(name, f"{name} {number(name)}", None) for name in names]
    assert read(tmp_path, "dataset_coco.json", json.dumps({"images": images})) == expected
    del images[2]["sentences"]
    with pytest.raises(PromptError, match=r"image 2: expected the fields filename, split and sentences"):
        read(tmp_path, "dataset_coco.json", json.dumps({"images": images}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"prompt_id": "x", "text": "a"}\n{"prompt_id": "y"}\n', r"p.jsonl line 2: field 'text'"),
        ("p.jsonl", '{"prompt_id": "x y", "text": "a"}\n', r"line 1: field 'prompt_id'"),
        ("p.jsonl", '{"prompt_id": "x", "text": "a"}\n' * 2, r"line 2: prompt_id 'x' occurs twice"),
        (
            "p.jsonl",
            '{"text": "a", "Prompt": "b"}\n',
            r"'text' and 'Prompt' could both be meant; .*--text-field",
        ),
        ("p.jsonl", '{"words": "a"}\n', r"line 1: field 'text' is missing; found 'words'; .*--text-field"),
        ("p.jsonl", '{"text": " "}\n', r"line 1: field 'text': found nothing but white space"),
        ("p.jsonl", '{"text": 5}\n', r"line 1: field 'text': found 5"),
        ("p.jsonl", '{"text": "a"}\n"b"\n[]\n', r"line 3: found list, expected a prompt like the first"),
        ("p.jsonl", "{\n", r"line 1: not valid JSON"),
        ("p.json", '{"a": "x",\n "b" "y"}', r"line 2: not valid JSON"),
        ("p.json", '{"a": "x", "a": "y"}', r"key 'a' occurs twice"),
        ("p.json", "5", r"found int, expected a list or a mapping"),
        ("p.yaml", "a: x\na: y\n", r"line 2: key 'a' occurs twice"),
        ("p.yaml", "'0009': x\n0010: y\n", r"line 2: key 8 is no text; put it into quotes"),
        ("p.yaml", "a: x\n b: y\n", r"line 2: not valid YAML"),
        ("p.csv", "id,prompt\nx,a\ny,b,c\n", r"line 3: more fields than the header"),
        ("p.csv", "id,prompt\nx\n", r"line 2: field 'prompt' is missing"),
        ("p.csv", 'id,prompt\nx,"a\n', r"line 2: not valid CSV"),
        ("p.csv", "id,prompt\nx,a\0b\n", r"line 2: field 'text': found \"a\\u0000b\""),
        ("p.parquet", "x", r"not valid Parquet"),
        ("p.txt", "\n", r"holds no prompts"),
        ("p.docx", "a", r"unknown kind of prompt file '.docx'; expected .txt"),
    ],
)
def test_bad_prompt_files_name_the_place(tmp_path, name, content, message):
    with pytest.raises(PromptError, match=message):
        read(tmp_path, name, content)


@pytest.mark.parametrize("field", ["id", "text", "category"])
def test_a_field_that_is_nowhere_is_told_with_those_that_are(tmp_path, field):
    with pytest.raises(PromptError, match=r"p\.csv: no field is called 'titel'; found 'id', 'title'"):
        read(tmp_path, "p.csv", "id,title\nx,a\n", **{field: "titel"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "a cat\r\n"),
        ("p.CSV", "prompt\r\na cat\r\n"),
        ("p.tsv", "prompt\r\na cat\r\n"),
        ("p.json", '["a cat"]'),
        ("p.jsonl", '"a cat"\r\n'),
        ("p.yaml", "- a cat\r\n"),
    ],
)
def test_files_of_windows_are_read_and_what_is_no_utf8_names_its_line(tmp_path, name, text):
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / name).write_bytes(mark + text.encode())
        assert [prompt.text for prompt in read_prompts(tmp_path / name)] == ["a cat"]
    (tmp_path / name).write_bytes(text.encode() + b"\n\nna\xefve\n")
    line = text.count("\n") + 3
    with pytest.raises(PromptError, match=rf"{name} line {line}: found byte 0xef, expected UTF-8 text"):
        read_prompts(tmp_path / name)
    (tmp_path / name).write_bytes(text.encode("utf-16"))
    with pytest.raises(PromptError, match=rf"{name} line 1: found byte 0xff, expected UTF-8 text"):
        read_prompts(tmp_path / name)


def test_a_missing_prompt_file_is_named(tmp_path):
    with pytest.raises(PromptError, match=r"none.txt: cannot be read"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(
        PromptError, match=r"'mjhk': neither a file nor a set; the sets are shapes, partiprompts"
    ):
        load_prompts("mjhk")


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), TEXT, min_size=1, max_size=5))
def test_what_is_exported_is_read_back(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("export")
    written = [Prompt(prompt_id=i, text=text, category="c") for i, text in texts.items()]
    for suffix in (".jsonl", ".csv", ".yaml"):
        path = folder / f"p{suffix}"
        path.write_text(WRITERS[suffix](written), encoding="utf-8", newline="")
        back = [(p.prompt_id, p.text) for p in read_prompts(path)]
        assert back == list(texts.items()), suffix


def test_words_for_raters_are_whole_and_of_either_case():
    texts = ["A NUDE model", "nudging a boat", "sexy", "Essex", "a concentration camp", "summer camp"]
    kept = fit([Prompt(prompt_id="x", text=text) for text in texts], read_words())
    assert [prompt.text for prompt in kept] == ["nudging a boat", "Essex", "summer camp"]


# ---------------------------------------------------------------- the real files


def real(name):
    if not (REAL / name).exists():
        pytest.skip(f"{REAL / name} is not here: the published file is not redistributed")
    return REAL / name


@pytest.mark.parametrize(
    ("spec", "rows", "categories", "first"),
    [
        ("geneval={}/geneval_metadata.jsonl", 553, 6, "a photo of a bench"),
        ("drawbench={}/drawbench.txt", 200, 0, "35mm macro shot a kitten"),
        ("{}/coco_30k.csv", 30_000, 0, "Green commercial building"),
        ("{}/dpg_bench.csv", 1_065, 0, "An expansive field"),
        ("{}/t2i_compbench_val.csv", 2_400, 8, "a green bench and a blue bowl"),
        ("{}/imagereward_refl_10k.json", 10_000, 0, "brittle, abstract emotion"),
        ("{}/imagereward_benchmark_100.json", 100, 0, "a concept art of a vehicle"),
        ("{}/imagereward_test_466.json", 466, 0, "deathly portal"),
        ("{}/qdiff_coco.yaml", 1_024, 0, "three people riding"),
    ],
)
def test_published_files_are_read_whole(spec, rows, categories, first):
    real(spec.rpartition("/")[2])
    found = load_prompts(spec.format(REAL))
    assert len(found) == rows
    assert len({p.category for p in found} - {None}) == categories
    assert found[0].text.startswith(first)


def test_partiprompts_ships_unchanged():
    prompts = load_prompts("partiprompts")
    assert len(prompts) == 1632
    assert len({p.category for p in prompts}) == 12
    assert prompts[-1].prompt_id == "1631"
    shipped = found(SETS["partiprompts"])
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() == SETS["partiprompts"].sha256


def test_the_sha256_of_partiprompts_is_that_of_the_published_file():
    published = hashlib.sha256(real("partiprompts.tsv").read_bytes()).hexdigest()
    assert published == SETS["partiprompts"].sha256
