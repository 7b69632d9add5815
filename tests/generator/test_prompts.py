import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.prompts import PromptError, noise_seed, read_prompts, subset
from study.gallery import Prompt


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


def test_text_and_jsonl_files(tmp_path):
    (tmp_path / "p.txt").write_text("a cat\n\na dog\n")
    assert [(p.prompt_id, p.text) for p in read_prompts(tmp_path / "p.txt")] == [
        ("0000", "a cat"),
        ("0001", "a dog"),
    ]
    (tmp_path / "p.jsonl").write_text('{"prompt_id": "x", "text": "a cat", "category": "animals"}\n')
    assert read_prompts(tmp_path / "p.jsonl")[0].category == "animals"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"prompt_id": "x", "text": "a"}\n{"prompt_id": "y"}\n', r"p.jsonl line 2: field 'text'"),
        ("p.jsonl", '{"prompt_id": "x y", "text": "a"}\n', r"line 1: field 'prompt_id'"),
        ("p.jsonl", '{"prompt_id": "x", "text": "a"}\n' * 2, r"prompt_id 'x' occurs twice"),
        ("p.jsonl", "{\n", r"line 1: not valid JSON"),
        ("p.txt", "\n", r"holds no prompts"),
        ("p.csv", "a", r"unknown kind of prompt file '.csv'"),
    ],
)
def test_bad_prompt_files_name_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / name)


def test_a_missing_prompt_file_is_named(tmp_path):
    with pytest.raises(PromptError, match=r"none.txt: cannot be read"):
        read_prompts(tmp_path / "none.txt")
