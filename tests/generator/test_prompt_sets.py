"""`generator prompts`, and downloads from a server of our own."""

import dataclasses
import hashlib
import http.server
import io
import json
import threading
import zipfile

import pytest
from click.testing import CliRunner

from generator.cli import cli
from generator.prompts import SETS, PromptError, noise_seed, sets
from generator.prompts.download import download

META = b'{"00a": {"category": "food", "prompt": "soup"}, "00b": {"category": "logo", "prompt": "a nude"}}'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prompts"


@pytest.fixture
def published(tmp_path, cache, monkeypatch):
    """MJHQ as if it were published in a folder here; returns its file."""
    file = tmp_path / "published.json"
    file.write_bytes(META)
    monkeypatch.setitem(SETS, "mjhq", dataclasses.replace(SETS["mjhq"], url=file.as_uri()))
    return file


def generator(*arguments):
    return CliRunner().invoke(cli, ["prompts", *arguments])


def test_a_set_that_is_not_here_says_how_to_get_it(cache):
    result = generator("show", "mjhq")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for part in (str(cache), "mjhq=FILE", "--download", "Playground v2.5 Community Licence", "playgroundai"):
        assert part in result.stderr


def test_nothing_is_downloaded_unless_it_is_asked_for(published, cache):
    assert generator("show", "mjhq").exit_code == 2
    result = generator("show", "mjhq", "--download", "--json")
    assert result.exit_code == 0, result.output
    assert "licence: Playground" in result.stderr
    assert f"sha256 {hashlib.sha256(META).hexdigest()}" in result.stderr
    assert json.loads(result.stdout)["categories"] == {"food": 1, "logo": 1}
    assert (cache / "meta_data.json").read_bytes() == META
    assert generator("show", "mjhq").exit_code == 0


def test_a_download_that_is_not_what_it_was_is_left_out(published, cache):
    download(SETS["mjhq"])
    published.write_bytes(META.replace(b"soup", b"fish"))
    with pytest.raises(PromptError, match=r"sha256 is .*, expected"):
        download(SETS["mjhq"])
    assert (cache / "meta_data.json").read_bytes() == META
    assert sorted(p.name for p in cache.iterdir()) == ["meta_data.json", "meta_data.json.sha256"]


def test_a_published_checksum_is_held_against_the_first_download(published, cache):
    wrong = dataclasses.replace(SETS["mjhq"], sha256="0" * 64)
    with pytest.raises(PromptError, match=f"sha256 is .*, expected {'0' * 64}"):
        download(wrong)
    assert list(cache.iterdir()) == []


@pytest.fixture
def server():
    """Answers of a server on this machine by path: (body, its stated length)."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self)
            if self.path not in answers:
                self.send_error(404)
                return
            body, length = answers[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", answers
        running.shutdown()
        thread.join()


def test_a_download_that_breaks_off_leaves_nothing(server, cache):
    url, answers = server
    answers["/m"] = (META, len(META) + 10)
    with pytest.raises(PromptError, match=r"broke off after|cannot be downloaded"):
        download(dataclasses.replace(SETS["mjhq"], url=f"{url}/m"))
    with pytest.raises(PromptError, match="cannot be downloaded: Not Found"):
        download(dataclasses.replace(SETS["mjhq"], url=f"{url}/none"))
    assert list(cache.iterdir()) == []


def test_the_karpathy_file_is_taken_out_of_its_archive(server, cache):
    url, answers = server
    packed = io.BytesIO()
    image = {"filename": "COCO_val2014_000000000042.jpg", "split": "val", "sentences": [{"raw": "a dog"}]}
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("dataset_coco.json", json.dumps({"images": [image]}))
    answers["/c.zip"] = (packed.getvalue(), len(packed.getvalue()))
    path = download(dataclasses.replace(SETS["coco"], url=f"{url}/c.zip"))
    assert path == cache / "dataset_coco.json"
    assert sets.load_prompts("coco")[0].text == "a dog"
    answers["/c.zip"] = (META, len(META))
    with pytest.raises(PromptError, match="not a zip archive"):
        download(dataclasses.replace(SETS["coco"], url=f"{url}/c.zip"))


def test_only_sets_with_an_address_can_be_downloaded(cache):
    result = generator("show", "drawbench", "--download")
    assert result.exit_code == 2
    assert "these can: mjhq, sdci" in result.stderr


# ---------------------------------------------------------------- commands


def test_list_tells_licence_and_place(cache):
    rows = json.loads(generator("list", "--json").stdout)
    assert [row["id"] for row in rows] == list(SETS)
    assert all(row["licence"] for row in rows)
    assert {row["id"]: row["file"] for row in rows}["mjhq"] == "not here"
    assert "Apache-2.0" in generator("list").stdout


def test_sample_is_category_then_filter_then_subset():
    result = generator(
        "sample", "partiprompts", "--category", "Animals", "--filter", "default", "-n", "3", "--json"
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 3
    assert {row["category"] for row in rows} == {"Animals"}
    assert [row["seed"] for row in rows] == [noise_seed(row["prompt_id"]) for row in rows]
    ten = generator("sample", "partiprompts", "--category", "Animals", "--filter", "default", "-n", "10")
    assert {row["prompt_id"] for row in rows} < {line.split()[1] for line in ten.stdout.splitlines()}


def test_the_filter_says_how_many_it_left_out(tmp_path):
    (tmp_path / "p.txt").write_text("a nude\na cat\n")
    (tmp_path / "words.txt").write_text("# mine\ncat\n")
    assert generator("sample", str(tmp_path / "p.txt"), "--filter", "default").stdout.endswith(
        "0001  a cat\n"
    )
    result = generator("sample", str(tmp_path / "p.txt"), "--filter", str(tmp_path / "words.txt"))
    assert result.stdout.endswith("0000  a nude\n")
    assert "left out: 1 of 2 prompts" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "partiprompts", "--category", "Animal"], "--category 'Animal': none of Abstract, Vehicles"),
        (["show", "partiprompts", "--text-field", "x"], "the fields of a named set are known"),
        (["show", "partiprompts", "--filter", "none.txt"], "none.txt: cannot be read"),
        (["export", "partiprompts", "-o", "p.docx"], "unknown kind of file '.docx'"),
        (["sample", "partiprompts", "-n", "5000"], "5000 prompts asked for, but the set has 1632"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = generator(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_export_writes_what_a_run_reads(tmp_path):
    out = tmp_path / "p.jsonl"
    assert generator("export", "partiprompts", "-n", "5", "-o", str(out)).exit_code == 0
    exported = [json.loads(line)["prompt_id"] for line in out.read_text().splitlines()]
    drawn = generator("sample", "partiprompts", "-n", "5", "--json").stdout.splitlines()
    assert exported == [json.loads(line)["prompt_id"] for line in drawn]
