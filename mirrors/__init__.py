"""Where bytes come from: the mirror catalogue, measuring, choosing, verified fetching, and config texts.

Knows nothing of environments, images or models, and imports nothing from the other three folders.
"""
