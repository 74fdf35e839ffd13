"""What servers send as a chat completion, read leniently and judged strictly; pure."""
