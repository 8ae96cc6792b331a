"""Chromium without a window, spoken to over its own pipe: nothing to install beside it."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


class Failure(Exception):
    """The browser did not answer, or not as it should."""


class Browser:
    """One process. Whatever a page asks of the network is refused: names resolve to nothing, addresses lie behind a proxy
    that is not there."""

    def __init__(self, program):
        self.folder = tempfile.mkdtemp(prefix="tensorseal-page-")
        # The browser reads commands from descriptor 3 and writes answers and events to 4.
        commands, self.write = os.pipe()
        self.read, answers = os.pipe()
        flags = [
            "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self.folder}", "--no-first-run",
            "--no-default-browser-check", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9", "--proxy-bypass-list=<-loopback>",
            "--force-color-profile=srgb", "--font-render-hinting=none",
        ]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to start as root with it

        def descriptors():
            # High numbers first: 3 and 4 may be taken by the very pipes that are to become them.
            first, second = os.dup2(commands, 100, inheritable=False), os.dup2(answers, 101, inheritable=False)
            os.dup2(first, 3, inheritable=True)
            os.dup2(second, 4, inheritable=True)

        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.process = subprocess.Popen([program, *flags], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, close_fds=False, preexec_fn=descriptors)
        os.close(commands)
        os.close(answers)
        self.number, self.events, self.answers, self.rest = 0, [], {}, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.ask("Browser.close")
        except (Failure, OSError):
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def receive(self, until):
        """Reads what has come by `until`, waiting for at least something."""
        ready, _, _ = select.select([self.read], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise Failure("the browser does not answer")
        more = os.read(self.read, 1 << 20)
        if not more:
            raise Failure("the browser ended: " + open(self.log.name, errors="replace").read()[-2000:])
        *whole, self.rest = (self.rest + more).split(b"\0")
        for message in map(json.loads, whole):
            if "id" in message:
                self.answers[message["id"]] = message
            else:
                self.events.append(message)

    def ask(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + 60
        while self.number not in self.answers:
            self.receive(until)
        answer = self.answers.pop(self.number)
        if "error" in answer:
            raise Failure(f"{method}: {answer['error'].get('message')}")
        return answer["result"]


class Page:
    """A tab of a size, in a scheme of colours."""

    def __init__(self, browser, width, height, scheme, scripts=True):
        self.browser, self.width, self.height = browser, width, height
        self.target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.size(height)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        if not scripts:
            self.ask("Emulation.setScriptExecutionDisabled", value=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.ask("Target.closeTarget", targetId=self.target)

    def ask(self, method, **parameters):
        return self.browser.ask(method, self.session, **parameters)

    def size(self, height):
        phone = self.width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=self.width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)

    def seen(self, method):
        """The events of this kind in this tab."""
        return [event["params"] for event in self.browser.events if event.get("sessionId") == self.session and event["method"] == method]

    def open(self, url):
        """Opens it, waits until it has loaded, and a little longer, for what it may start then."""
        self.ask("Page.navigate", url=url)
        until = time.monotonic() + 30
        while not self.seen("Page.loadEventFired"):
            self.browser.receive(until)
        time.sleep(0.2)
        self.ask("Runtime.evaluate", expression="0")  # events that were under way have come

    def evaluate(self, script):
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Failure(f"a check itself failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def picture(self, path, height=None):
        """The first `height` pixels, or all of it."""
        height = height or int(self.evaluate("document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": self.width, "height": height, "scale": 1}
        data = self.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
