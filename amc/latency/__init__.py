"""Time as a budget: profiles of devices, what they predict, and how far that is from what is measured."""
