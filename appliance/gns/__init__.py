"""The global name space: the map of junctions, its store, and what is generated from it."""
