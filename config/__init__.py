"""What an operator can set and how processes start: settings, logging, gunicorn. Imports nothing of ours."""
