"""The command line: `weatherlib predict`, `plot`, `info`, `simulate`."""
