"""Records of runs: what is written, how it is read, and all of it as one table, `frame`."""

from diffmatch.records.frame import frame

__all__ = ["frame"]
