"""The catch-up path: Sync Order, checkpoints, verdicts, the catch-up schedule, and their pages."""
