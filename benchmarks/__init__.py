"""Speed, memory and skill. Each module is a script that explains itself with --help."""
