"""Chromium without a window, driven as a person would (Debian's chromium-driver and python3-selenium). What it writes
to its console, refused policies among it, is kept; the accessibility tree is the one that screen readers get."""
import os
import tempfile

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

OUT = os.environ.get("OUT") or tempfile.mkdtemp(prefix="oftd-page-")
SLOW = float(os.environ.get("TEST_SLOW", "1"))


class Browser:
    def __init__(self):
        options = webdriver.ChromeOptions()
        for a in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                  "--disable-background-networking", "--disable-component-update", "--no-first-run", "--lang=en"):
            options.add_argument(a)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_page_load_timeout(30 * SLOW)

    def look(self, width, height, scheme):
        """The size of the window in CSS pixels, and the colour scheme that the person prefers."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def open(self, url):
        self.driver.get(url)

    def find(self, css):
        """The element, waited for: the page draws when answers come, in its own time."""
        return self.until(lambda: next(iter(self.all(css)), None), css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css):
        """As it is in the document, whether it can be seen or not; "" without such an element."""
        return self.js("return document.querySelector(arguments[0])?.textContent ?? ''", css)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def click(self, css):
        """As soon as it is there and enabled; an element that a redraw replaces meanwhile is sought anew."""
        def clicked():
            try:
                element = self.find(css)
                if not element.is_enabled():
                    return False
                element.click()
                return True
            except StaleElementReferenceException:
                return False
        self.until(clicked, f"a click on {css}")

    def fill(self, css, text):
        element = self.find(css)
        element.clear()
        element.send_keys(text)

    def press(self, *keys):
        for k in keys:
            ActionChains(self.driver).send_keys(k).perform()

    def chord(self, held, key):
        ActionChains(self.driver).key_down(held).send_keys(key).key_up(held).perform()

    def focus(self):
        """Name of the focused element, as the accessibility tree has it."""
        return self.driver.switch_to.active_element.accessible_name

    def until(self, condition, what, timeout=20):
        return WebDriverWait(self.driver, timeout * SLOW, 0.05).until(lambda _: condition(), f"{what} did not come true")

    def console(self):
        """What it said since the last time."""
        return [f"{e['level']} {e['message']}" for e in self.driver.get_log("browser")]

    def tree(self):
        """[(role, name)] of the accessibility tree, ignored nodes left out."""
        nodes = self.cdp("Accessibility.getFullAXTree")["nodes"]
        value = lambda n, key: n.get(key, {}).get("value", "")
        return [(value(n, "role"), value(n, "name")) for n in nodes if not n["ignored"]]

    def shot(self, name):
        path = os.path.join(OUT, f"{name}.png")
        self.driver.save_screenshot(path)
        return path

    def close(self):
        self.driver.quit()
