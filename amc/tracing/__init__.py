"""How the structure of a network is found."""
