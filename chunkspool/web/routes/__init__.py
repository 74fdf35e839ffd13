"""The routes of the web app: one file per kind of client."""
