"""Opens the page in a browser, if somebody is there to see it."""

from __future__ import annotations

import os
import sys
import webbrowser


def open_page(url: str) -> bool:
    """Open `url` in a desktop browser; return whether there is one.

    Without a desktop, webbrowser may start a text browser, which would cover the demo in the terminal.
    """
    desktop = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return desktop and sys.stdout.isatty() and webbrowser.open(url)
