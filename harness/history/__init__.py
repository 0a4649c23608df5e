"""Results of all runs on this host, in one SQLite file: since when does it fail, what flakes."""
