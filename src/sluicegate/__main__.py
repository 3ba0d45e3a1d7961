"""``python -m sluicegate`` is the command ``sluicegate``."""

from sluicegate._cli.main import main

main(prog_name="sluicegate")
