"""Reading pictures from files: from folders, tar shards and rows of tables; and what the user's cache keeps of them."""
