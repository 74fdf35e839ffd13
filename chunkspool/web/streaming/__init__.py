"""Event streams: how a chat is followed and sent while the client is there."""
