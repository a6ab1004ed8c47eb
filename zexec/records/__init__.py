"""What is remembered of tasks: ``entry`` one task's record, ``query`` how to ask for records, ``plain`` both as text. Pure."""
