"""``sluicegate cases``: list the cases."""

from __future__ import annotations

import json

import click

from sluicegate._cli.command import HELP_OPTIONS, Command, echo
from sluicegate.proof.cases import cases
from sluicegate.proof.report.data import case_data


@click.command("cases", cls=Command, context_settings=HELP_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(as_json: bool) -> None:
    """List the cases, without running them."""
    if as_json:
        echo(json.dumps([case_data(each) for each in cases()], indent=2))
        return
    for each in cases():
        echo(f"{each.id:<34} {'SHOULD' if each.should else 'MUST  '}  {each.sentence}")
