"""The command ``sluicegate``: one file for each subcommand."""
