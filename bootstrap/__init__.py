"""The only folder that changes the machine: the CLI, detection, plans, their execution, and reports."""
