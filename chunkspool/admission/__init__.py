"""What a web user may ask for: the hook that decides, and what is decided without one."""
