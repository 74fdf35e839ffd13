"""The log of a process: text or JSON, one record a line, and in none of them what people or models say."""
