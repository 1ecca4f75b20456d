"""Runs the command line as `python -m amc`."""

import sys

from amc.cli.main import main

sys.exit(main())
