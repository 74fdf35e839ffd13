"""For tests of your app: a pytest plugin (`plugin.py` has its fixtures), and functions that read a chat to its end."""

from chunkspool.testing.conversation import answer_of, answers_of, assert_answers, read_to_end

__all__ = ["answer_of", "answers_of", "assert_answers", "read_to_end"]
