"""Streams of events for programs: devices, recordings, and data that the caller pushes."""
