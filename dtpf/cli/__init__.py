"""The command line `dtpf`: look at networks, fuse files, evaluate methods, serve a bundle."""

from dtpf.cli.app import main

__all__ = ["main"]
