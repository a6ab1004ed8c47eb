"""Views: address engines one by one or all at once, move data to them, balance calls over them.

An extension: a program that wants a Pool or an Executor never meets it.
"""
