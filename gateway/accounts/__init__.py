"""Accounts, their users, and how somebody proves to be one: passwords, sessions, API tokens, throttles."""
