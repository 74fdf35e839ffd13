"""Drive Debian's Chromium with Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@contextmanager
def run_chromium() -> Iterator[Browser]:
    """Run a headless Chromium; skip the test if there is none, but fail in CI."""
    path = shutil.which("chromium")
    if path is None:
        reason = "chromium is not on PATH; apt-get install chromium brings it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
