"""Torture: kills, cuts, flipped bits, hostile answers, strangers and a long stream; what went wrong.

make torture                          # all of it, minutes
python -m tests.torture --short       # what `make test` does of it
"""
