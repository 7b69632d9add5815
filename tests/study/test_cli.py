import csv
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from study.ballot import Answer, Answers, answer, current
from study.cli import cli
from study.config import read_protocol
from study.participants import add_voter
from study.server import ServerError, address_of, greeting, listen
from study.store import open_store


def run(*arguments: object, **environment: str) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(*arguments: object, **environment: str) -> str:
    """The one line that a bad command prints."""
    result = run(*arguments, **environment)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.delenv("BOT_CHECK_SECRET", raising=False)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    assert run("init", tmp_path / "s", "--title", "Which?").exit_code == 0
    return tmp_path / "s"


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_has_help_with_an_example(command: str) -> None:
    text = run(command, "--help").output
    assert f"study {command}" in text.split("Example:")[1]


def test_init_makes_a_study(made: Path) -> None:
    assert read_protocol(made).title == "Which?"
    assert stat.S_IMODE((made / "secret.key").stat().st_mode) == 0o600
    assert len((made / "secret.key").read_text().strip()) == 64
    assert (made / "study.db").exists()


def test_init_does_not_touch_a_study_that_is_there(made: Path) -> None:
    key = (made / "secret.key").read_text()
    assert "a study stands here already" in refused("init", made)
    assert (made / "secret.key").read_text() == key


def test_init_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused("init", tmp_path / "file" / "s")


def test_ingest_status_export(made: Path, gallery: Path, tmp_path: Path) -> None:
    assert "ingested 18 images: 3 methods, 6 prompts" in run("ingest", gallery, "--study", made).output
    assert "nothing changed" in run("ingest", gallery, "--study", made).output
    assert "not open yet" in run("status", "--study", made).output
    assert "opened version 1 of the protocol" in (opened := run("open", "--study", made).output)
    assert "18 pairs to vote on" in opened
    assert "version 1 is open already" in run("open", "--study", made).output
    status = json.loads(run("status", "--study", made, "--json").output)
    assert (status["votes"], status["cells"], status["version"], status["flags"]) == (0, 18, 1, {})
    assert status["sides"] == {"first_left": 0, "given": 0, "worst_quota": 0}
    shown = run("status", "--study", made).output
    assert "pairs, of 18 cells" in shown
    assert "time left   –" in shown
    assert "wrote 0 votes" in run("export", "--study", made, "-o", tmp_path / "v.csv").output
    done = run("export", "--study", made, "--format", "jsonl", "-o", tmp_path / "v").output
    assert done == f"wrote 0 votes to {tmp_path}/v, and what they are to {tmp_path}/README.md\n"
    line = refused("export", "--study", made, "--schema", "hpd", "-o", tmp_path / "v.csv")
    assert "csv cannot hold the nested rows of hpd" in line


def test_pause_resume_close(made: Path, gallery: Path) -> None:
    run("ingest", gallery, "--study", made)
    run("open", "--study", made)
    for command, standing in (("pause", "paused"), ("close", "closed"), ("resume", "open")):
        assert run(command, "--study", made).output.startswith(f"{standing}: ")
        assert run(command, "--study", made).output == f"the study is {standing} already; nothing changed\n"
        assert json.loads(run("status", "--study", made, "--json").output)["standing"] == standing
        assert f"\n{standing}, version 1\n" in run("status", "--study", made).output


@pytest.mark.parametrize("fault", ["missing image", "changed file", "duplicate row", "unknown method"])
def test_a_bad_gallery_is_one_line_and_nothing_is_ingested(
    made: Path, build_gallery: Callable[..., Path], tmp_path: Path, fault: str
) -> None:
    folder = build_gallery(tmp_path / "g")
    rows = (folder / "images.jsonl").read_text().splitlines(keepends=True)
    if fault == "missing image":
        (folder / "images/naive-w4a4/0003.png").unlink()
        words = ["images.jsonl line 10", "images/naive-w4a4/0003.png", "missing"]
    elif fault == "changed file":
        file = folder / "images/naive-w4a4/0003.png"
        file.write_bytes(file.read_bytes()[:-1])
        words = ["images.jsonl line 10", "sha256", "changed"]
    elif fault == "duplicate row":
        (folder / "images.jsonl").write_text("".join([*rows, rows[4]]))
        words = ["images.jsonl line 19", "duplicate", "line 5"]
    else:
        (folder / "images.jsonl").write_text("".join(rows).replace('"naive-w4a4"', '"naive-w4a5"', 1))
        words = ["images.jsonl line 7", "'naive-w4a5'"]
    line = refused("ingest", folder, "--study", made)
    assert [word for word in words if word not in line] == [], line
    status = json.loads(run("status", "--study", made, "--json").output)
    assert (status["cells"], status["methods"]) == (0, [])
    assert not (made / "served").exists() or not list((made / "served").iterdir())
    assert not (made / "gallery.json").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["serve"],
        ["ingest", "g"],
        ["open"],
        ["export", "-o", "v.csv"],
        ["password"],
        ["verify"],
        ["exclude"],
        ["upgrade"],
    ],
)
def test_no_study_there(tmp_path: Path, command: list[str]) -> None:
    line = refused(*command, "--study", tmp_path / "nowhere")
    assert "study.toml" in line
    assert "study init" in line


def test_a_bad_setting_is_named(made: Path) -> None:
    toml = made / "study.toml"
    toml.write_text(toml.read_text().replace("prefetch", "prefech"))
    assert "unknown key 'prefech'" in refused("status", "--study", made)


def test_a_bad_database_url(made: Path, tmp_path: Path) -> None:
    assert "DATABASE_URL" in refused("status", "--study", made, DATABASE_URL="mysql://x")
    assert "revision none" in refused("status", "--study", made, DATABASE_URL=f"sqlite:///{tmp_path}/new.db")


def test_a_database_that_is_no_database(made: Path) -> None:
    (made / "study.db").write_bytes(b"hello, I am not a database at all" * 100)
    assert "not a database" in refused("status", "--study", made)


def test_serve_refuses_a_missing_or_short_key(made: Path) -> None:
    (made / "secret.key").unlink()
    assert "SECRET_KEY: found 0 characters" in refused("serve", "--study", made, "--port", 0)
    line = refused("serve", "--study", made, SECRET_KEY="long enough for this", SENDFILE="x")  # noqa: S106
    assert "SENDFILE: found 'x', expected nginx, apache or nothing" in line
    assert "SECRET_KEY: found 5" in refused("serve", "--study", made, "--port", 0, SECRET_KEY="short")  # noqa: S106


def test_serve_refuses_a_bot_check_without_its_secret(made: Path) -> None:
    text = (made / "study.toml").read_text().replace('service = ""', 'service = "hcaptcha"')
    (made / "study.toml").write_text(text.replace('site_key = ""', 'site_key = "a-key"'))
    line = refused("serve", "--study", made, "--port", 0)
    assert "BOT_CHECK_SECRET: found nothing in the environment" in line
    assert "hcaptcha" in line


@pytest.mark.parametrize("options", [("--host", "0.0.0.0"), ("--proxies", 1), ("--host", "192.0.2.7")])  # noqa: S104
def test_the_key_file_is_for_this_machine_alone(made: Path, options: tuple[object, ...]) -> None:
    line = refused("serve", "--study", made, "--port", 0, *options)
    assert "SECRET_KEY: found 0 characters, expected 16 or more, in the environment (" in line
    assert "secret.key is for a study that only this machine can reach" in line


def test_a_key_file_that_others_can_read_is_refused(made: Path) -> None:
    (made / "secret.key").chmod(0o640)
    assert "chmod 600" in refused("serve", "--study", made, "--port", 0)


def test_serve_tells_of_a_port_in_use(made: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: Address already in use" in refused(
            "serve", "--study", made, "--port", port
        )


def test_a_changed_study_toml_is_refused_until_it_is_opened(made: Path, gallery: Path) -> None:
    assert "study ingest" in refused("open", "--study", made)
    assert "study ingest" in refused("serve", "--study", made, "--port", 0)
    run("ingest", gallery, "--study", made)
    run("open", "--study", made)
    toml = made / "study.toml"
    before = toml.read_text()
    toml.write_text(before.replace("trials_per_voter = 30", "trials_per_voter = 20"))
    line = refused("serve", "--study", made, "--port", 0)
    assert "trials_per_voter changed since version 1 was opened" in line
    assert "opened version 2" in run("open", "--study", made).output
    toml.write_text(before)
    assert "these settings were version 1" in refused("open", "--study", made)
    toml.write_text(before.replace('["en"]', '["tlh"]'))
    assert "languages: no catalogue for 'tlh', only for en, " in refused("open", "--study", made)


def test_verify_and_exclude(made: Path, gallery: Path, tmp_path: Path) -> None:
    run("ingest", gallery, "--study", made)
    run("open", "--study", made)
    store = open_store(made)
    voter = add_voter(store, "key")
    assert voter
    trial = current(store, voter.id).trials[0].trial_id
    answer(store, voter.id, trial, Answers("vote-1", (Answer("preference", "left", 900),)))
    store.close()
    dump = tmp_path / "v.csv"
    run("export", "--study", made, "-o", dump)
    said = run("verify", "--study", made, "--gallery", gallery, "--dump", dump).output
    assert "1 votes are what the events say" in said
    assert "1 rows of" in said

    assert run("exclude", "--study", made).output == "no rules: nothing is left out\n"
    assert "no voter has the flag rhythm" in run("exclude", "--study", made, "--flag", "rhythm").output
    assert refused("exclude", "--study", made, "--judge", voter.judge) == (
        "Error: reason: found 0 characters, expected 1 to 500\n"
    )
    assert "no judge 'nobody'" in refused("exclude", "--study", made, "--judge", "nobody", "--reason", "x")
    rule = f"   1  judge {voter.judge}: asked to leave"
    said = run("exclude", "--study", made, "--judge", voter.judge, "--reason", "asked to leave").output
    assert said == rule + "\n"
    run("export", "--study", made, "-o", dump)
    assert ",true,asked to leave," in dump.read_text()
    assert run("exclude", "--study", made, "--lift", 1).output == rule + " (lifted)\n"
    assert "no rule 1 stands" in refused("exclude", "--study", made, "--lift", 1)
    run("export", "--study", made, "-o", dump)
    assert ",false,," in dump.read_text()

    dump.write_text(dump.read_text().replace("model_a,preference", "model_b,preference"))
    found = run("verify", "--study", made, "--dump", dump)
    assert found.exit_code == 1
    assert "vote vote-1: winner is 'model_b', the study has 'model_a'" in found.stderr


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ServerError, match=r"203\.0\.113\.1"):
        listen("203.0.113.1", 0)


def test_addresses_are_such_that_a_browser_opens_them() -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost")):  # noqa: S104
        with listen(host, 0) as bound:
            assert re.fullmatch(rf"http://{shown}:\d+", address_of(bound))


def test_the_greeting_says_what_to_type(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.parent)
    text = greeting(made, "Which?", "http://127.0.0.1:1", "secret", {"PATH": os.environ["PATH"]})
    assert "http://127.0.0.1:1/admin/   one-time password: secret" in text
    assert "export --study s -o s/votes.parquet" in text
    assert "compute s/votes.parquet --sizes s/gallery.json" in text
    assert "plot pareto s/votes.parquet --sizes s/gallery.json -o s/pareto.svg" in text


def test_heavy_packages_wait_until_they_are_needed() -> None:
    heavy = "pandas", "torch", "pyarrow", "matplotlib", "scipy"
    code = f"import sys, study.cli, study.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_invitations_are_printed_listed_and_revoked(made: Path) -> None:
    printed = run("invite", "--study", made, "-n", 3, "--expires", "12h", "--address", "https://x.example/")
    links = printed.stdout.splitlines()
    assert len(set(links)) == 3
    assert all(re.fullmatch(r"https://x\.example/i/[\w.-]+", link) for link in links)
    [one] = json.loads(run("invite", "--study", made, "--uses", 5, "--label", "panel, A", "--json").stdout)
    assert (one["number"], one["uses"], one["used"], one["label"], one["expires"]) == (
        4,
        5,
        0,
        "panel, A",
        None,
    )
    assert run("invite", "--study", made, "--revoke", 4).exit_code == 0
    rows = list(csv.DictReader(run("invite", "--study", made, "--list").stdout.splitlines()))
    here = [link.replace("https://x.example", "http://127.0.0.1:5000") for link in links]
    assert [row["link"] for row in rows[:3]] == here
    assert [row["revoked"] for row in rows] == ["False"] * 3 + ["True"]
    assert "no invitation 9" in refused("invite", "--study", made, "--revoke", 9)
    for span in ("30", "0d", "-1d", "soon", "1.5h"):
        assert run("invite", "--study", made, "--expires", span).exit_code == 2
    text = (made / "study.toml").read_text()
    (made / "study.toml").write_text(text.replace("invitation = true", "invitation = false"))
    assert "entrances.invitation is false" in refused("invite", "--study", made)


def test_persons_are_exported_only_when_asked(made: Path, gallery: Path, tmp_path: Path) -> None:
    run("ingest", gallery, "--study", made)
    run("open", "--study", made)
    store = open_store(made)
    assert add_voter(store, "key")
    voter = add_voter(store, "key")
    assert voter
    for side in ("left", "tie"):
        trial = current(store, voter.id).trials[0].trial_id
        answer(store, voter.id, trial, Answers(f"vote-{side}", (Answer("preference", side, 900),)))
    store.close()
    (tmp_path / "out").mkdir()
    run("export", "--study", made, "-o", tmp_path / "out" / "votes.csv")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "votes.csv"]
    persons = tmp_path / "out" / "persons.csv"
    hpd = ("--schema", "hpd", "-o", tmp_path / "out" / "votes.json")
    said = run("export", "--study", made, *hpd, "--with-persons", persons)
    assert said.exit_code == 0
    assert "left out: 1 votes" in said.stdout
    assert "wrote 2 persons" in said.stdout
    assert "never publish it" in said.stderr
    assert persons.read_text().startswith("judge,source,")
