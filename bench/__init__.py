"""Measurements of the relay beside its peers, all in one run against one upstream. See README.md."""
