"""Code that several tests share: a tiny model bundle, generated recordings and events, servers, and simulated devices."""
