"""The ledger's companions: what is fed, owed, tried again, closed, paused and changed by
operators.
"""
