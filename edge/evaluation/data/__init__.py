"""The published data sets that moodring supports: catalogue, readers and verification."""
