"""The process that runs tasks: ``bootstrap`` starts it, ``engine`` is its two threads, ``runner`` runs one task."""
