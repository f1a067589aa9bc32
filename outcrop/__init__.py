"""Outcrop finds where a picture was taken and which specimen it shows."""
