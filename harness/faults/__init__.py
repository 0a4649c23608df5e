"""Faults that the lab brings about from outside: links that lose packets, tape commands that fail or wait."""
