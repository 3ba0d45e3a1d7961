"""``python -m sluicegate`` is the command ``sluicegate``."""

from sluicegate.cli import main

main(prog_name="sluicegate")
