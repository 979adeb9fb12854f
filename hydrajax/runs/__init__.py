"""A run: from a configuration to a folder that holds everything it found."""
