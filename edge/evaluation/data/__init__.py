"""The published data sets that moodring reads: what they are, and whether a folder holds them whole."""
