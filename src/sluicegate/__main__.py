"""Run the command ``sluicegate`` as ``python -m sluicegate``."""

from sluicegate._cli.main import main

main()
