"""The commands, by what they are about: runs, what is installed, data."""
