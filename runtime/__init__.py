"""What runs inside an environment or an image: models, the FP16 engine, the job store and the HTTP server.

Imports nothing from the other three folders, so that this folder alone is what an image needs.
"""

__version__ = "0.1.0"
