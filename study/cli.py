"""The command `study`. Only wires: each command reads, calls one function and tells what it did."""

import csv
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from elo.options import BadInput
from study import exclusions
from study.config import STUDY_FILE, ConfigError, Protocol, read_protocol
from study.exclusions import ExclusionError
from study.export import WRITERS, ExportError, export_votes
from study.gallery import GalleryError
from study.invitations import MOST, InvitationError, Link, invitations, revoke
from study.invitations import invite as make_invitations
from study.layouts import OTHERS
from study.protocols import Version, count_cells, must_be_open, open_protocol
from study.quality import FLAGS, voter_flags
from study.roster import export_persons
from study.schema import GalleryRow
from study.starting import starting_toml
from study.store import Store, StoreError, check_ready, migrate, open_store

KEY_FILE = "secret.key"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what the user can mend into one line and exit code 2; anything else is our mistake and shows."""
    from study.server import ServerError

    try:
        yield
    except (
        GalleryError,
        ConfigError,
        StoreError,
        ExportError,
        ExclusionError,
        InvitationError,
        ServerError,
    ) as error:
        raise BadInput(" ".join(str(error).split())) from error
    except OperationalError as error:
        raise BadInput(f"database: {str(error.orig).splitlines()[0]}") from error


def study_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option --study, the same for every command."""
    return click.option(
        "--study",
        "folder",
        type=click.Path(path_type=Path),
        default=".",
        show_default="here",
        help="The study's folder.",
    )(command)


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Store, Protocol]]:
    """A study that exists: its store, with this version's tables, and its protocol."""
    with one_line_errors():
        protocol = read_protocol(folder)
        store = open_store(folder, os.environ.get("DATABASE_URL"))
        try:
            check_ready(store)
            yield store, protocol
        finally:
            store.close()


@click.group()
@click.version_option(package_name="pairstudy")
def cli() -> None:
    """Blinded 1v1 studies of generated images: a gallery in, a voting site, votes out.

    DATABASE_URL (PostgreSQL instead of the study's own SQLite file) and SECRET_KEY (instead of the
    study's own key file) are read from the environment.
    """


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--title", default="Which picture do you prefer?", show_default=True, help="What voters read first."
)
def init(folder: Path, title: str) -> None:
    """Make a study in FOLDER: its settings, its key and its database.

    \b
    Example:
      study init my-study --title "Which picture is better?"
    """
    with one_line_errors():
        if (folder / STUDY_FILE).exists():
            raise ConfigError(f"{folder / STUDY_FILE}: a study stands here already")
        if not title.strip():
            raise ConfigError("--title: found nothing, expected a text")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
        store = open_store(folder, os.environ.get("DATABASE_URL"))
        try:
            migrate(store)
            with store.read() as session:
                if session.scalars(select(GalleryRow.name)).first() is not None:
                    raise StoreError("the database holds a study already; give each study its own")
        finally:
            store.close()
        _write_key(folder / KEY_FILE)
        (folder / STUDY_FILE).write_text(starting_toml(folder, title), encoding="utf-8")
    click.echo(f"made the study {folder}; its settings are in {folder / STUDY_FILE}")


@cli.command()
@click.argument("gallery", type=click.Path(path_type=Path))
@study_option
def ingest(gallery: Path, folder: Path) -> None:
    """Put GALLERY into the study: all of it, or nothing and one line that says why.

    The same gallery a second time changes nothing.

    \b
    Example:
      study ingest demo/gallery --study my-study
    """
    from study.ingest import ingest as put_in

    with opened(folder) as (store, _):
        done = put_in(gallery, store)
    if done.new:
        click.echo(
            f"ingested {done.name}: {done.methods} methods, {done.prompts} prompts, {done.images} images"
        )
    else:
        click.echo(f"{done.name} is in the study already; nothing changed")


@cli.command(name="open")
@study_option
def open_(folder: Path) -> None:
    """Freeze study.toml as the next version of the protocol: from now on new voters come under it.

    Voters who began under an older version end under it. `study serve` does this when nothing is open yet.

    \b
    Example:
      study open --study my-study
    """
    with opened(folder) as (store, protocol):
        click.echo(_say_opened(store, open_protocol(store, protocol)))


def _say_opened(store: Store, version: Version) -> str:
    if not version.new:
        return f"version {version.number} is open already; nothing changed"
    with store.read() as session:
        pairs = count_cells(session, version.hash)
    return f"opened version {version.number} of the protocol ({version.hash[:12]}): {pairs} pairs to vote on"


@cli.command()
@study_option
def upgrade(folder: Path) -> None:
    """Bring the database of a study made by an older pairstudy up to date; nothing else may use it meanwhile.

    \b
    Example:
      study upgrade --study my-study
    """
    with one_line_errors():
        if not (folder / STUDY_FILE).exists():
            raise ConfigError(f"{folder / STUDY_FILE}: not found; `study init {folder}` makes a study")
        store = open_store(folder, os.environ.get("DATABASE_URL"))
        try:
            migrate(store)
        finally:
            store.close()
    click.echo("the database is up to date")


@cli.command()
@study_option
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 opens it to the network.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0: any free one."
)
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes.")
@click.option(
    "--proxies",
    type=click.IntRange(0, 9),
    default=0,
    help="Reverse proxies in front, which must speak https.",
)
def serve(folder: Path, host: str, port: int, workers: int, proxies: int) -> None:
    """Serve the study and print the links for voters and for the admin.

    Served to this machine alone, the study uses its own key file; else SECRET_KEY must be set.

    \b
    Example:
      study serve --study my-study --port 8000
    """
    from study.app import create_app
    from study.logins import new_password
    from study.security import is_loopback
    from study.server import Server, address_of, greeting, listen

    with opened(folder) as (store, protocol), ExitStack() as if_it_fails:
        config = {
            "STUDY": folder.resolve(),
            "SECRET_KEY": _secret_key(folder, demo=is_loopback(host) and not proxies),
            "DATABASE_URL": os.environ.get("DATABASE_URL"),
            "PROXIES": proxies,
            "SENDFILE": _sendfile(),
        }
        bound = if_it_fails.enter_context(listen(host, port))
        version = must_be_open(store, protocol)
        said = _say_opened(store, version) if version.new else ""
        password = new_password(store, alone=True)
        if_it_fails.pop_all()
    if said:
        click.echo(said)
    text = greeting(folder, protocol.title, address_of(bound), password, os.environ)
    Server(lambda: create_app(config), bound, workers, lambda: click.echo(text)).run()


@cli.command()
@study_option
def password(folder: Path) -> None:
    """Print another one-time admin password for a study that is being served.

    \b
    Example:
      study password --study my-study
    """
    from study.logins import new_password

    with opened(folder) as (store, _):
        click.echo(new_password(store))


@cli.command()
@study_option
@click.option("--format", "kind", type=click.Choice(list(WRITERS)), help="By default what FILE ends in.")
@click.option(
    "--schema", type=click.Choice(list(OTHERS)), help="The columns of another system; only rated votes."
)
@click.option("--question", help="With --schema, where the study asks several.")
@click.option("--all", "superseded", is_flag=True, help="Also votes that a later vote takes back.")
@click.option("--license", metavar="ID", help="For the card, such as cc-by-4.0.")
@click.option(
    "--with-persons",
    "persons",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Also who they are, in a file of its own: personal data.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="May end in .gz."
)
def export(folder: Path, out: Path, persons: Path | None, **options: Any) -> None:
    """Write all votes to FILE, one row a vote; model_a is the left image. README.md beside it is their card.

    \b
    Example:
      study export --study my-study --format parquet -o votes.parquet
      study export --study my-study --schema hpd -o hpd.json
    """
    with opened(folder) as (store, _):
        dump = export_votes(store, out, **options)
        number = export_persons(store, persons) if persons else 0
    click.echo(f"wrote {dump.votes} votes to {out}, and what they are to {dump.card}")
    for reason, number in dump.left_out.items():
        click.echo(f"left out: {number} votes ({reason})")
    if persons:
        click.echo(f"wrote {number} persons to {persons}")
        click.echo("warning: it says who the judges are; never publish it, and keep it apart", err=True)


@cli.command()
@study_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(folder: Path, as_json: bool) -> None:
    """Say how far the study is: votes wanted and there, pace, time left, voters, flags.

    \b
    Example:
      study status --study my-study --json
    """
    from study.status import status as look
    from study.status import status_lines

    with opened(folder) as (store, protocol), store.read() as session:
        told = look(session)
    if as_json:
        click.echo(json.dumps({"study": protocol.name, **told}))
        return
    click.echo(protocol.title)
    for line in status_lines(told):
        click.echo(line)


@cli.command()
@study_option
@click.option("--gallery", type=click.Path(path_type=Path), help="Hash the images of this folder as well.")
@click.option("--dump", type=click.Path(path_type=Path), help="Hold an exported file against the study.")
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="Make a rating table (.json of elo compute) again, from --dump or from the study.",
)
def verify(folder: Path, gallery: Path | None, dump: Path | None, table: Path | None) -> None:
    """Check that nothing stored was changed: chains of hashes, tables against events, images.

    Says what fits, or names the first thing that does not and exits with 1.

    \b
    Example:
      study verify --study my-study --dump votes.parquet --table ratings.json
    """
    from elo import InputError
    from study.dumps import verify_dump, verify_table
    from study.verify import VerifyError
    from study.verify import verify as check

    with opened(folder) as (store, _):
        try:
            for line in check(store, gallery):
                click.echo(line)
            if dump is not None:
                click.echo(verify_dump(store, dump))
            if table is not None:
                click.echo(verify_table(store, table, dump))
        except InputError as error:
            raise BadInput(str(error)) from error
        except VerifyError as error:
            raise click.ClickException(str(error)) from None  # exits with 1: it was checked, and found


@cli.command(name="blind-check")
@study_option
@click.option("--trials", type=click.IntRange(100), default=1000, show_default=True, help="Pairs looked at.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the voters' choices and the folds.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def blind_check(folder: Path, trials: int, seed: int, as_json: bool) -> None:
    """Play voters who try to tell the methods from everything they receive but the pixels.

    They vote in a copy of the study that goes away. Says for each channel how well it tells (AUC: 0.5 not
    at all, 1 always) and exits with 1 if one tells more than chance. Needs pairstudy[blind-check].

    \b
    Example:
      study blind-check --study my-study
    """
    from study.blindcheck import blind_check as check
    from study.blindcheck import to_terminal
    from study.leaks import TooFewError

    if find_spec("sklearn") is None:
        raise BadInput("scikit-learn is missing; `pip install pairstudy[blind-check]` brings it")
    with (
        opened(folder) as (store, protocol),
        click.progressbar(length=trials, label="pairs", file=sys.stderr) as progress,
    ):
        try:
            verdict = check(store, protocol, trials, seed, progress.update)
        except TooFewError as error:
            raise BadInput(str(error)) from error
    click.echo(json.dumps(asdict(verdict)) if as_json else to_terminal(verdict))
    if verdict.telling:
        raise click.ClickException(f"told which side is which method: {', '.join(verdict.telling)}")


@cli.command()
@study_option
def pause(folder: Path) -> None:
    """Hand out no more pairs until `study resume`; answers to those that are out are stored.

    Whoever comes meanwhile is asked to come back.

    \b
    Example:
      study pause --study my-study
    """
    _turn(folder, "paused", "paused: nobody gets a new pair; `study resume` goes on")


@cli.command()
@study_option
def resume(folder: Path) -> None:
    """Let a study that was paused, or closed, go on.

    \b
    Example:
      study resume --study my-study
    """
    _turn(folder, "resumed", "open: voters get pairs again")


@cli.command()
@study_option
def close(folder: Path) -> None:
    """End the study: nobody new is let in, and voters are done with the pairs that they have.

    \b
    Example:
      study close --study my-study
    """
    _turn(folder, "closed", "closed: nobody gets a new pair; the answers to those that are out are stored")


def _turn(folder: Path, decision: str, said: str) -> None:
    from study.gate import AFTER, turn

    with opened(folder) as (store, _):
        changed = turn(store, decision)
    click.echo(said if changed else f"the study is {AFTER[decision]} already; nothing changed")


@cli.command()
@study_option
@click.option("--judge", multiple=True, help="All votes of this judge, as named in the dump.")
@click.option("--vote", multiple=True, help="One vote, by its id.")
@click.option("--prompt", multiple=True, help="All votes on this prompt.")
@click.option("--flag", type=click.Choice(FLAGS), help="All votes of each judge who has this flag now.")
@click.option("--reason", help="Why; it goes into the dump.")
@click.option("--lift", type=int, metavar="RULE", help="Let the votes of a rule count again.")
def exclude(
    folder: Path,
    judge: tuple[str, ...],
    vote: tuple[str, ...],
    prompt: tuple[str, ...],
    flag: str | None,
    reason: str | None,
    lift: int | None,
) -> None:
    """Leave votes out of all tables by a rule with a reason; without options, list the rules.

    No vote is changed or deleted. Rules are recorded, and so is their lifting.

    \b
    Example:
      study exclude --study my-study --flag failed_golds --reason "fewer than 3 of 4 golds"
    """
    with opened(folder) as (store, _):
        if lift is not None:
            exclusions.lift(store, lift)
        if flag is not None:
            with store.read() as session:
                flagged = [
                    name for name, flags in voter_flags(session).items() if flag in {f.name for f in flags}
                ]
            judge = (*judge, *sorted(flagged))
            reason = f"{flag}: {reason}" if reason else reason
        for field, values in (("judge", judge), ("vote", vote), ("prompt", prompt)):
            if values:
                exclusions.exclude(store, field, list(values), reason or "")
        for rule in exclusions.rules(store):
            lifted = " (lifted)" if rule.lifted else ""
            click.echo(f"{rule.number:4}  {rule.field} {rule.value}: {rule.reason}{lifted}")


class Days(click.ParamType):
    """A span of time, such as 30d or 12h, in days."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Days of a text like 30d."""
        found = re.fullmatch(r"([0-9]{1,4})([dh])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"found {value!r}, expected a number of days or hours, such as 30d or 12h", param, ctx)
        return int(found[1]) / (1 if found[2] == "d" else 24)


@cli.command()
@study_option
@click.option("-n", "number", type=click.IntRange(1, MOST), default=1, help="How many links.")
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="People by each link.")
@click.option("--expires", "days", type=Days(), help="Such as 30d or 12h; by default never.")
@click.option("--label", default="", help="For yourself; it is not in the link.")
@click.option(
    "--address", default="http://127.0.0.1:5000", show_default=True, help="Where voters find the study."
)
@click.option("--csv", "as_csv", is_flag=True, help="For a mail merge.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--list", "listing", is_flag=True, help="Make none: show all, and how many people came.")
@click.option("--revoke", "revoked", type=int, metavar="NUMBER", help="Let nobody else in by this one.")
def invite(
    folder: Path,
    address: str,
    as_csv: bool,
    as_json: bool,
    listing: bool,
    revoked: int | None,
    **wanted: Any,
) -> None:
    """Print links that let people in, signed, each for one person or for several.

    They are signed with the SECRET_KEY of the environment or else with the study's key file: it must be the
    one that `study serve` uses.

    \b
    Example:
      study invite --study my-study -n 20 --expires 30d --label "panel A" --address https://study.example
    """
    with opened(folder) as (store, protocol):
        key = _secret_key(folder, demo=True)
        if revoked is not None:
            revoke(store, revoked)
            click.echo(f"invitation {revoked} lets nobody else in")
            return
        if not protocol.entrances.invitation:
            raise ConfigError("study.toml: entrances.invitation is false: nobody would be let in")
        links = invitations(store, key) if listing else make_invitations(store, key, **wanted)
    rows = [_as_row(link, address) for link in links]
    if as_json:
        click.echo(json.dumps(rows))
    elif as_csv or listing:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["number", "label", "uses", "used", "expires", "revoked", "link"])
        writer.writerows(row.values() for row in rows)
    else:
        for row in rows:
            click.echo(row["link"])


def _as_row(link: Link, address: str) -> dict[str, Any]:
    expires = None if link.expires is None else datetime.fromtimestamp(link.expires, UTC)
    return {
        "number": link.number,
        "label": link.label,
        "uses": link.uses,
        "used": link.used,
        "expires": expires and expires.isoformat(timespec="seconds"),
        "revoked": link.revoked,
        "link": address.rstrip("/") + link.path,
    }


def _write_key(path: Path) -> None:
    """A key that only its owner can read, from the first byte on."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")


def _secret_key(folder: Path, demo: bool) -> str:
    """SECRET_KEY; for a demo also the key file, which travels with the folder wherever that is copied."""
    from study.security import SHORTEST_KEY

    key, place, path = os.environ.get("SECRET_KEY", ""), "the environment", folder / KEY_FILE
    if demo:
        place = f"the environment or in {path}"
        if not key and path.exists():
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others can read it; `chmod 600 {path}` keeps it yours")
            key = path.read_text().strip()
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"SECRET_KEY: found {len(key)} characters, expected {SHORTEST_KEY} or more, in {place}"
            + ("" if demo else f" ({path} is for a study that only this machine can reach)")
        )
    return key


def _sendfile() -> str:
    """SENDFILE: which proxy in front sends the pictures; empty for none."""
    from study.delivery import SENDERS

    sender = os.environ.get("SENDFILE", "")
    if sender not in SENDERS:
        raise ConfigError(f"SENDFILE: found {sender!r}, expected nginx, apache or nothing")
    return sender


if __name__ == "__main__":
    cli()
