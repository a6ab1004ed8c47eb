"""How engines come to be, one kind per file."""
