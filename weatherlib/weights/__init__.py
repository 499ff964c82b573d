"""Published weights: strict readers of their files, and maps of their names.

Nothing is ever unpickled or run, torch is not needed, and files are mapped into memory.
"""
