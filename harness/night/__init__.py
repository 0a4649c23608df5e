"""The night: all topologies times the main job and all scenarios, and one page that says what changed."""
