"""What an operator can set and how processes start. Others import settings and logging; this imports nothing of ours."""
