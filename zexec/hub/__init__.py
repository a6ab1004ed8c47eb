"""The hub and its hosts: ``hub`` is the hub itself, ``thread`` hosts it in a client."""
