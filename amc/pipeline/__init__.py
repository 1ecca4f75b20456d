"""The wiring: prepare, search, deliver, compare, summarise."""
