"""A generation task of somebody's own whose error quotes the prompt and the answer."""

from chunkspool import Producer
from chunkspool.worker import generation_task

NAME = "careless.answer"
ANSWER = "marker-of-the-careless-answer"


@generation_task(name=NAME)
def answer(out: Producer) -> None:
    """Fail with all that is secret in the error's message, and in that of its cause."""
    out.text(ANSWER)
    said = str(out.request.messages)
    try:
        {}[said]
    except KeyError as error:
        raise ValueError(f"cannot answer {said} with {ANSWER}") from error
