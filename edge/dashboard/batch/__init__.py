"""Report of the output folder of `moodring batch`."""
