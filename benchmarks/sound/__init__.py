"""Measurements of the speech front end."""
