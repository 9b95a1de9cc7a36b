"""The orders themselves: one writer (apply), readings, changes, queries."""
