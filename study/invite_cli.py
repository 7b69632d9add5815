"""The command `study invite`: links for people, and who came by them."""

import csv
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from study.command import opened, study_option
from study.config import ConfigError
from study.invitations import MOST, Link, invitations, revoke
from study.invitations import invite as make_invitations
from study.secret import secret_key


class Days(click.ParamType):
    """A span of time, such as 30d or 12h, in days."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Days of a text like 30d."""
        found = re.fullmatch(r"([0-9]{1,4})([dh])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"found {value!r}, expected a number of days or hours, such as 30d or 12h", param, ctx)
        return int(found[1]) / (1 if found[2] == "d" else 24)


@click.command()
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
    """Print links that let people in.

    Each is for one person, or for several, and signed with the SECRET_KEY of the environment or else with
    the study's key file: it must be the one that `study serve` uses.

    \b
    Example:
      study invite --study my-study -n 20 --expires 30d --label "panel A" --address https://study.example
    """
    with opened(folder) as (store, protocol):
        key = secret_key(folder, demo=True)
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
