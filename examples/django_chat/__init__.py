"""A chat in Django: users log in, ask, follow their answer from any point, and stop it; `useChat` front ends work, too.

It needs `pip install 'chunkspool[worker]' django gunicorn uvicorn`. Make the database, with a user:

    export DJANGO_SECRET_KEY=… DJANGO_SETTINGS_MODULE=examples.django_chat.settings
    python examples/django_chat/manage.py migrate
    python examples/django_chat/manage.py createsuperuser

Then in two terminals, the second one with either of these servers:

    celery -A examples.django_chat worker -Q chunkspool -P threads -c 100
    uvicorn --http h11 --timeout-graceful-shutdown 5 examples.django_chat.asgi:application
    gunicorn -k gthread --threads 100 --graceful-timeout 5 examples.django_chat.wsgi

Under uvicorn an open stream is a coroutine, under gunicorn it holds a thread.
"""

from examples.django_chat.celery import app as celery_app

__all__ = ["celery_app"]  # loaded with the project, so that @shared_task uses it
