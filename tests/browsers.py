"""A headless Chromium for tests of the page: what a person does there, and what they see."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""
MISSING = "" if CHROMIUM and DRIVER else "needs Chromium and its driver (apt-get install chromium chromium-driver)"


class Browser:
    """A tab. What the page logs and what it asks from the network is kept."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.asked: list[str] = []

    def open(self, url: str, width: int = 1400, height: int = 900, **media: str) -> None:
        """Shows the page at a size of its own; `media` are media features, such as prefers_color_scheme="dark"."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def at(self, selector: str) -> Any:
        """The first element."""
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """Of the last element, as it is in the document; "" without one."""
        found: str = self.run("return [...document.querySelectorAll(arguments[0])].at(-1)?.textContent ?? ''", selector)
        return found

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """What `condition` returns as soon as it is true."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"it did not happen: {self.text('body')[-1500:]} {self.messages()}"
            time.sleep(0.02)
        return found

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""

        ActionChains(self.driver).send_keys(*keys).perform()

    def press_with(self, modifier: str, key: str) -> None:
        """A key while `modifier` is held."""

        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def focus(self) -> str:
        """What has the focus: its id, or its name."""
        found: str = self.run("const e = document.activeElement; return e.id || e.tagName.toLowerCase()")
        return found

    def messages(self) -> list[str]:
        """What the page or the browser complained about since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses of everything that was asked from the network so far."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        return self.asked


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own, without any user's settings."""
    if MISSING:
        pytest.skip(MISSING)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    for flag in [*flags, *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
