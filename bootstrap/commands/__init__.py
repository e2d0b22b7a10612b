"""The commands, one module each: they parse, call one function and show the result. No work is done here.

Everything heavy is imported inside of a command, since `--help` loads all of these modules.
"""
