"""Bytes <-> messages and objects, without sockets. See ``frames`` and ``pickling``."""
