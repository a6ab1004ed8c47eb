"""Scheduling as a pure state machine. See ``scheduler``."""
