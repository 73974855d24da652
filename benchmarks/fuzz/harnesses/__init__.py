"""One module for each reader that is fuzzed. Each has `make(folder)`, which returns its harness."""
