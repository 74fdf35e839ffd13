"""The project for WSGI servers: `gunicorn -k gthread --threads 100 examples.django_chat.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_chat.settings")

application = get_wsgi_application()
