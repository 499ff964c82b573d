"""Modules of the published package that our tree files elsewhere.

Each is reached as `weatherlib.<name>`: this folder is on the package's search path.
"""
