"""A gallery in an object store, against a local S3 server."""

import shutil
import threading

import pytest
import small_run as small
from click.testing import CliRunner

from generator import sweep
from generator.cli import cli
from generator.sweep.store import Mirrored
from study import gallery

moto = pytest.importorskip("moto.server", reason="moto, the local S3 server, is not installed")
s3fs = pytest.importorskip("s3fs", reason="the extra [s3] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def s3():
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        yield files
    server.stop()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gallery_grows_in_the_store_and_goes_on_from_another_machine(s3, cache, tmp_path, monkeypatch):
    with small.interrupted_at_the_third(monkeypatch), Mirrored("s3://bucket/runs/g") as store:
        small.run(store.folder)
    assert not s3.exists("bucket/runs/g/gallery.json")
    rows = s3.cat("bucket/runs/g/images.jsonl").decode().splitlines()
    assert len(rows) == 2 * small.BATCH
    shutil.rmtree(cache)  # another machine
    with Mirrored("s3://bucket/runs/g") as store:
        assert small.run(store.folder).new == 14 - len(rows)
    s3.invalidate_cache()
    s3.get("bucket/runs/g/", str(tmp_path / "got"), recursive=True)
    small.run(tmp_path / "alone")
    found, expected = gallery.read_gallery(tmp_path / "got"), gallery.read_gallery(tmp_path / "alone")
    assert [(i.file, i.sha256) for i in found.images] == [(i.file, i.sha256) for i in expected.images]
    with Mirrored("s3://bucket/runs/g") as store:
        assert small.run(store.folder).new == 0


def test_rows_never_name_an_image_that_is_not_there(s3, cache, monkeypatch):
    """Copies that happen while the run goes on: whatever is in the store is whole so far as it goes."""
    monkeypatch.setattr("generator.sweep.store.EVERY", 0.02)
    drawn, seen, news = [], [0], threading.Condition()

    class Patient(small.Pipeline):
        """Draws when the store has all that was drawn before."""

        def __call__(self, prompt, **named):
            with news:
                assert news.wait_for(lambda: seen[-1] == len(drawn), timeout=120)
            drawn.extend(prompt)
            return super().__call__(prompt, **named)

    class Watched(Mirrored):
        def _copy(self):
            super()._copy()
            if s3.exists("bucket/w/images.jsonl"):
                (self.folder / ".seen").write_bytes(s3.cat("bucket/w/images.jsonl"))
                names = [row.file for row in _rows(self.folder / ".seen")]
                assert all(s3.exists(f"bucket/w/{name}") for name in names)
                with news:
                    seen.append(len(names))
                    news.notify_all()

    with Watched("s3://bucket/w") as store:
        small.run(store.folder, base=small.model(load=Patient))
    assert {0, 3, 6, 7, 10, 13, 14} <= set(seen)


def _rows(path):
    lines = path.read_text().splitlines(keepends=True)  # the last may have been copied while it was written
    return [gallery.ImageRecord.model_validate_json(line) for line in lines if line.endswith("\n")]


def test_a_store_that_cannot_be_reached_is_told(s3, cache):
    with pytest.raises(sweep.SweepError, match=r"nosuch://x: cannot be read"), Mirrored("nosuch://x"):
        pass
    with (
        pytest.raises(
            sweep.SweepError, match=r"s3://no-bucket/g: cannot be written: .*the same command again"
        ),
        Mirrored("s3://no-bucket/g") as store,
    ):
        small.run(store.folder)


def test_a_store_that_asks_who_it_is_is_told(s3, cache, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(sweep.SweepError, match=r"s3://bucket/g: cannot be read: .*credentials"):
        Mirrored("s3://bucket/g").__enter__()
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_command_takes_an_address(s3, cache):
    address = "s3://bucket/cli"
    command = ["run", "--methods", "fp16", "-n", "2", "-o", address]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert f"{address}: 2 new images" in result.stdout
    s3.invalidate_cache()
    assert len(s3.ls("bucket/cli/images/fp16")) == 2
    assert "0 new images" in CliRunner().invoke(cli, command).stdout
