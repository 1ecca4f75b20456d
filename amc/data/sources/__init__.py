"""Data sets by name, and folders that users give: each as a split for training and a split for testing."""
