"""The live page: what the daemon senses, in a browser on this machine. Loaded only where it is asked for."""
