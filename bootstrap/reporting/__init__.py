"""How timing reports look: tables for a terminal, one HTML page, a trace, two deployments side by side."""
