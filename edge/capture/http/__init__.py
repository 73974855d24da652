"""Cameras that send JPEGs over HTTP: a stream of them (MJPEG), or one at each request (a snapshot)."""
