"""Sockets and the loop that owns them; the only importer of zmq."""
