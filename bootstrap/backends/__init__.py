"""Who builds an environment: uv from wheels, or conda's family from channels.

Each back end turns a lock into installed packages, and knows nothing of plans but for the module with its steps.
"""
