"""The Flask example with one difference: users may script the model, as the scenarios of the SDK's clients do."""

from functools import partial
from importlib import import_module

from chunkspool.views import UseChat
from examples.flask_chat import create_app

# By its full name: the package has the blueprint by the module's own.
import_module("examples.flask_chat.usechat").UseChat = partial(UseChat, admit=lambda asked: asked)  # type: ignore[attr-defined]
app = create_app()
