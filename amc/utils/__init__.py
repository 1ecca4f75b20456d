"""What every part may use: registry, conversion, random state, JSON files, progress."""
