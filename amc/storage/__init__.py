"""Files that hold networks: written and read without pickle, and without any agent."""
