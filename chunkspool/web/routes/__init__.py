"""The routes of the web app, one file for each kind of client."""
