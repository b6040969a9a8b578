"""The dashboard: runs, looked at in a browser."""
