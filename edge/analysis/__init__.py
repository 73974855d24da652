"""Analysis of images, recordings and sound to rows, and streams of events, for Python programs and `moodring analyze`."""
