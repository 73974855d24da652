"""Evaluation of a model bundle on published data sets, without PyTorch: `moodring evaluate` and `moodring data`."""
