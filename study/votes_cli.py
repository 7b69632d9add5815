"""The commands about votes: how many there are, out into files, held against the chains, left out."""

import json
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from elo.options import BadInput
from study import exclusions
from study.command import opened, study_option
from study.export import WRITERS, export_votes
from study.layouts import OTHERS
from study.quality import FLAGS, voter_flags
from study.roster import export_persons


@click.command()
@study_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(folder: Path, as_json: bool) -> None:
    """Say how far the study is.

    Votes wanted and there, pace, time left, voters, flags.

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


@click.command()
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
    """Write all votes to FILE, one row a vote.

    model_a is the left image. README.md beside FILE is its card.

    \b
    Example:
      study export --study my-study --format parquet -o votes.parquet
      study export --study my-study --schema hpd -o hpd.json
    """
    with opened(folder) as (store, _):
        dump = export_votes(store, out, **options)
        people = export_persons(store, persons) if persons else 0
    click.echo(f"wrote {dump.votes} votes to {out}, and what they are to {dump.card}")
    for reason, number in dump.left_out.items():
        click.echo(f"left out: {number} votes ({reason})")
    if persons:
        click.echo(f"wrote {people} persons to {persons}")
        click.echo("warning: it says who the judges are; never publish it, and keep it apart", err=True)


@click.command()
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
    """Leave votes out of all tables by a rule with a reason.

    No vote is changed or deleted. Rules are recorded, and so is their lifting. Without options, they are
    listed.

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
            if not flagged:
                click.echo(f"no voter has the flag {flag}")
            judge = (*judge, *sorted(flagged))
            reason = f"{flag}: {reason}" if reason else reason
        for field, values in (("judge", judge), ("vote", vote), ("prompt", prompt)):
            if values:
                exclusions.exclude(store, field, list(values), reason or "")
        rules = exclusions.rules(store)
        if not rules:
            click.echo("no rules: nothing is left out")
        for rule in rules:
            lifted = " (lifted)" if rule.lifted else ""
            click.echo(f"{rule.number:4}  {rule.field} {rule.value}: {rule.reason}{lifted}")


@click.command()
@study_option
@click.option("--gallery", type=click.Path(path_type=Path), help="Hash the images of this folder as well.")
@click.option("--dump", type=click.Path(path_type=Path), help="Hold an exported file against the study.")
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="Make a rating table (.json of elo compute) again, from --dump or from the study.",
)
def verify(folder: Path, gallery: Path | None, dump: Path | None, table: Path | None) -> None:
    """Check that nothing stored was changed.

    Chains of hashes, tables against events, images. Says what fits, or names the first thing that does not
    and exits with 1.

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


@click.command(name="blind-check")
@study_option
@click.option("--trials", type=click.IntRange(100), default=1000, show_default=True, help="Pairs looked at.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the voters' choices and the folds.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def blind_check(folder: Path, trials: int, seed: int, as_json: bool) -> None:
    """Try to tell the methods from all that voters receive.

    All but the pixels: robots vote in a copy of the study that goes away. Says for each channel how well it
    tells (AUC: 0.5 not at all, 1 always) and exits with 1 if one tells more than chance. Needs
    pairstudy[blind-check].

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
