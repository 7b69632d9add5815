"""The command `study`. Only wires: each command reads, calls one function and tells what it did."""

import os
from contextlib import ExitStack
from pathlib import Path

import click
from sqlalchemy import select

from study.command import one_line_errors, opened, study_option
from study.config import STUDY_FILE, ConfigError, Protocol
from study.invite_cli import invite
from study.protocols import Version, count_cells, must_be_open, open_protocol
from study.schema import GalleryRow
from study.secret import secret_key, write_key
from study.starting import starting_toml
from study.store import Store, StoreError, migrate, open_store
from study.votes_cli import blind_check, exclude, export, status, verify

MTURK_BY_HTTP = (
    "mturk = true needs https: a proxy in front, and --proxies 1. By plain http browsers send no cookie "
    "back, and voters read that their page was too old."
)


@click.group()
@click.version_option(package_name="pairstudy")
def cli() -> None:
    """Blinded 1v1 studies of generated images: a gallery in, a voting site, votes out.

    DATABASE_URL (PostgreSQL instead of the study's own SQLite file) and SECRET_KEY (instead of the
    study's own key file) are read from the environment.
    """


for command in (invite, status, export, exclude, verify, blind_check):
    cli.add_command(command)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--title", default="Which picture do you prefer?", show_default=True, help="What voters read first."
)
def init(folder: Path, title: str) -> None:
    """Make a study in FOLDER.

    That is its settings, its key and its database.

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
        write_key(folder)
        (folder / STUDY_FILE).write_text(starting_toml(folder, title), encoding="utf-8")
    click.echo(f"made the study {folder}; its settings are in {folder / STUDY_FILE}")
    click.echo("next: `study ingest GALLERY`, then `study serve`")


@cli.command()
@click.argument("gallery", type=click.Path(path_type=Path))
@study_option
def ingest(gallery: Path, folder: Path) -> None:
    """Put GALLERY into the study.

    All of it, or nothing and one line that says why. The same gallery a second time changes nothing.

    \b
    Example:
      study ingest demo/gallery --study my-study
    """
    from study.ingest import ingest as put_in

    with opened(folder) as (store, _):
        done = put_in(gallery, store)
    if done.new:
        click.echo(f"ingested {done.images} images: {done.methods} methods, {done.prompts} prompts")
    else:
        click.echo(f"{gallery} is in the study already; nothing changed")


@cli.command(name="open")
@study_option
def open_(folder: Path) -> None:
    """Freeze study.toml as the next version of the protocol.

    From now on new voters come under it. Voters who began under an older version end under it. `study serve`
    does this when nothing is open yet.

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
    """Bring the database of an older pairstudy up to date.

    Nothing else may use it meanwhile.

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
    """Serve the study and print its links.

    One is for voters, one for the admin. Served to this machine alone, the study uses its own key file; else
    SECRET_KEY must be set.

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
            "SECRET_KEY": secret_key(folder, demo=is_loopback(host) and not proxies),
            "DATABASE_URL": os.environ.get("DATABASE_URL"),
            "PROXIES": proxies,
            "SENDFILE": _sendfile(),
            "BOT_CHECK_SECRET": _bot_check_secret(protocol),
        }
        bound = if_it_fails.enter_context(listen(host, port))
        version = must_be_open(store, protocol)
        said = _say_opened(store, version) if version.new else ""
        password = new_password(store, alone=True)
        if_it_fails.pop_all()
    if said:
        click.echo(said)
    if protocol.entrances.mturk and not proxies:
        click.echo(MTURK_BY_HTTP, err=True)
    text = greeting(folder, protocol.title, address_of(bound), password, os.environ)
    Server(lambda: create_app(config), bound, workers, lambda: click.echo(text)).run()


@cli.command()
@study_option
def password(folder: Path) -> None:
    """Print another one-time admin password.

    It opens /admin/ of the study that is being served.

    \b
    Example:
      study password --study my-study
    """
    from study.logins import new_password

    with opened(folder) as (store, _):
        click.echo(new_password(store))


@cli.command()
@study_option
def pause(folder: Path) -> None:
    """Hand out no more pairs until `study resume`.

    Answers to those that are out are stored. Whoever comes meanwhile is asked to come back.

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
    """End the study.

    Nobody new is let in, and voters are done with the pairs that they have. `study resume` opens it again.

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


def _sendfile() -> str:
    """SENDFILE: which proxy in front sends the pictures; empty for none."""
    from study.delivery import SENDERS

    sender = os.environ.get("SENDFILE", "")
    if sender not in SENDERS:
        raise ConfigError(f"SENDFILE: found {sender!r}, expected nginx, apache or nothing")
    return sender


def _bot_check_secret(protocol: Protocol) -> str:
    """BOT_CHECK_SECRET: what proves to the service of a bot check that it is us who ask."""
    secret = os.environ.get("BOT_CHECK_SECRET", "")
    if protocol.bot_check.service and not secret:
        raise ConfigError(
            f"BOT_CHECK_SECRET: found nothing in the environment; [bot_check] in {STUDY_FILE} names "
            f"{protocol.bot_check.service}, which asks for the secret that goes with the site key"
        )
    return secret


if __name__ == "__main__":
    cli()
