"""What a user sees of a run: its folder, tables, figures, and progress."""
