"""The command line: one thin module a subcommand. Heavy imports happen inside `run`, never at import."""
