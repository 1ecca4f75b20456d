"""What a person takes away from a run: its folder, tables, plots, and progress while it works."""
