"""The network as faults see it: Toxiproxy's toxics, an embedded proxy that has them, and a client for both."""
