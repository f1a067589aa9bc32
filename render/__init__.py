"""Meshes and point clouds to pictures: load, normalise, cameras, renderers. Knows neither models nor the store."""
