"""Torture: kills, cuts, flipped bits, hostile answers and a long stream, with one table of what was lost.

make torture                          # all of it, minutes
python -m tests.torture --short       # what `make test` does of it
"""
