"""Makes the shipped locks anew: `make lock`, for the project's developers.

An installation uses only `text` (how an entry is written) and `platforms` (which wheels a platform can install).
"""
