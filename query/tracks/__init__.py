"""Tracks: the path of a flight from photographs that do not say where they were taken."""
