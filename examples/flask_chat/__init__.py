"""A chat in Flask: logged-in users ask, follow their answer from any point, and stop it; nobody reads another's.

It needs `pip install 'chunkspool[worker]' flask gunicorn`. In two terminals:

    celery -A examples.flask_chat.celery_app worker -Q chunkspool -P threads -c 100
    FLASK_SECRET_KEY=… gunicorn -k gthread --threads 100 --graceful-timeout 5 'examples.flask_chat:create_app()'

With `pip install gevent`, `-k gevent` in place of `-k gthread --threads 100` serves a thousand readers per process.
"""

from flask import Flask

from chunkspool import Spool
from chunkspool.errors import SettingsError
from examples.flask_chat import problems
from examples.flask_chat.celery_app import celery_app
from examples.flask_chat.chats import chats
from examples.flask_chat.usechat import usechat
from examples.flask_chat.users import users


def create_app(spool: Spool | None = None) -> Flask:
    """Make the app. `spool` is that of the environment unless given; nothing connects before the first request."""
    app = Flask(__name__)
    # Lax: other sites cannot post with the session of somebody who is logged in here.
    app.config.from_mapping(SESSION_COOKIE_SAMESITE="Lax", MAX_CONTENT_LENGTH=1_000_000)
    app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SESSION_COOKIE_SECURE, …
    if not app.config["SECRET_KEY"]:
        raise SettingsError("set FLASK_SECRET_KEY: sessions are signed with it")
    app.extensions["chunkspool"] = spool or Spool.from_env(celery_app=celery_app)
    app.register_blueprint(users)
    app.register_blueprint(chats, url_prefix="/chats")
    app.register_blueprint(usechat, url_prefix="/api/chat")
    problems.install(app)
    return app
