"""Open the page, where there is somebody to look at it."""

from __future__ import annotations

import os
import sys
import webbrowser


def show(url: str) -> bool:
    """Open `url` in a browser of the desktop; tell whether there is one. One of the terminal would cover the demo."""
    desktop = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return desktop and sys.stdout.isatty() and webbrowser.open(url)
