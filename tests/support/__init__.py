"""What several tests make use of: a tiny model bundle, generated recordings, events and signals."""
