"""The shipped page in a real Chromium with an emulated Quest 3, against the real server."""

import functools
import shutil
import time
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from robosteer_teleop.server import OperatorServer, ServerConfig

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "robosteer_teleop/web"
# A small canvas: software rendering sets the frame rate.
VIEWPORT = {"width": 640, "height": 360}
PATIENCE_S = 150.0
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def chromium():
    # Not for the session: while Playwright runs, no other test can use asyncio.run.
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no Chromium; `bash scripts/setup.sh --tests` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def config(tmp_path):
    return ServerConfig(host="127.0.0.1", port=0, loopback_port=0, tls_directory=tmp_path, takeover_s=0.2)


@pytest.fixture
def server(config):
    with OperatorServer(config) as running:
        yield running


class Quest:
    """A page in a browser with an emulated headset, and the server's side of it."""

    def __init__(self, browser, server, *, headset=True):
        self.server = server
        self.context = browser.new_context(viewport=VIEWPORT)
        self.page = self.context.new_page()
        self.requests, self.errors, self.events = [], [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        if headset:
            self.page.add_init_script(path=WEB / "node_modules/iwer/build/iwer.min.js")
            self.page.add_init_script(path=HERE / "quest.js")

    @property
    def loopback(self):
        return self.server.access.urls[-1]

    def pair(self, role="operator"):
        self.page.goto(self.loopback)
        self.fill_in(role)

    def fill_in(self, role="operator"):
        """Fill the form of the loaded page in."""
        self.page.click(f"input[value={role}]")
        codes = {"operator": self.server.access.operator_code, "observer": self.server.access.observer_code}
        self.page.fill("#code", codes[role])
        self.page.click("#pairing button")
        self.until(lambda: self.text("#link").startswith("connected"), "the welcome")

    def enter(self):
        """Pair as operator, enter the headset view and wait for poses."""
        self.pair()
        self.page.click("#enter")
        self.fresh(lambda received: received.frame.tracked)

    def run(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def until(self, condition, what="the condition", patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            self.page.wait_for_timeout(10)
        raise AssertionError(f"waited {patience_s} s for {what}; page errors {self.errors[:3]}")

    def fresh(self, condition=lambda received: True, what="a frame"):
        """The first frame from now on that meets a condition."""
        last = self.server.latest()
        count = last.count if last else 0

        def found():
            received = self.server.latest()
            return received if received and received.count > count and condition(received) else None

        return self.until(found, what)

    def event(self, kind):
        """The first event of a kind; it and those before it are forgotten."""

        def found():
            self.events += self.server.poll_events()
            return next((event for event in self.events if event.kind is kind), None)

        event = self.until(found, kind)
        self.events = self.events[self.events.index(event) + 1 :]
        return event

    def text(self, selector):
        return self.page.inner_text(selector)


@pytest.fixture
def make_quest():
    """Return a function that opens a page for a browser and a server; closes them and looks for errors of the page."""
    opened = []

    def make(browser, server, **options):
        opened.append(Quest(browser, server, **options))
        return opened[-1]

    yield make
    for quest in opened:
        quest.context.close()
    for quest in opened:
        assert not quest.errors, quest.errors[:3]


@pytest.fixture
def open_page(chromium, server, make_quest):
    return functools.partial(make_quest, chromium, server)


@pytest.fixture
def quest(open_page):
    """An operator in the headset view."""
    quest = open_page()
    quest.enter()
    return quest
