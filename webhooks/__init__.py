"""The live path: receive, store, apply, retry, dead letters, replay, and their pages."""
