"""Anthropic's Messages API: what is asked, and the events of an answer; pure."""
