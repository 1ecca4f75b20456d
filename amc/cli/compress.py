from amc.cli.command import Command
from amc.cli.options import add_run_options, run_config
COMMAND = Command(add_run_options, lambda o: print(run_config(o)), "Bla.", "  amc compress")
