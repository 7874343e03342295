"""What an administrator does: roles and rights, invariants, moving all rows, facts about a
server.
"""
