"""Simulated cameras and microphones that a test can unplug, freeze, kill and restart, and the faults of a live run."""
