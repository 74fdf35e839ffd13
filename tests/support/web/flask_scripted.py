"""The Flask example with one difference: users may script the model, as the scenarios of the SDK's clients do."""

from functools import partial

from chunkspool.views import UseChat
from examples.flask_chat import create_app, usechat

usechat.UseChat = partial(UseChat, admit=lambda asked: asked)
app = create_app()
