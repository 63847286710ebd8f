"""Seeds, ranks, files, machine: what every room may use. Nothing here knows of masks."""
