"""Training by several processes, one for each device."""
