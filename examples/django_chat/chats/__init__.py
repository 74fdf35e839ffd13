"""The app: chats, and the views that ask, follow and stop."""
