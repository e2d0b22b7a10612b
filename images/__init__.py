"""What goes into a Docker image, and the engine calls that build and run it."""
