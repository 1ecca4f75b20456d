"""How fast the search is, where its time goes, and how it compares with the reference procedure."""
