"""What the tests of real processes are made of: tasks, saboteurs, scripts, and the search for leftovers."""
