"""Who builds an environment: uv. Each back end turns a lock into installed packages, and knows nothing of plans."""
