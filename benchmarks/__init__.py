"""Benchmarks: one command each, a table and JSON, compared with the peer in the same run."""
