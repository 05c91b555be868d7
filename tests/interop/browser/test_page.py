"""The page of the admin port in a real browser: what a person sees as clients come, fall behind, and are moved away.

With BOWLINE_PICTURES set to a folder, it leaves pictures there."""

import json
import os
import re
import signal
import subprocess
import unittest
import urllib.request

from chromium import Chromium

ADMIN = f"http://{os.environ['BOWLINE_ADMIN']}"
SERVER = f"http://{os.environ['BOWLINE_ADDRESS']}"
PROGRAM = os.environ["BOWLINE_PROGRAM"]
PICTURES = os.environ.get("BOWLINE_PICTURES")

NARROW, WIDE = (375, 812), (1280, 900)


def bowline(*arguments, **pipes):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **pipes}
    environment = {**os.environ, "BOWLINE_SERVER": SERVER}
    return subprocess.Popen([PROGRAM, *arguments], env=environment, **pipes)


def ask(path, method="GET", body=None):
    headers = {"content-type": "application/json"} if body else {}
    request = urllib.request.Request(f"{ADMIN}{path}", data=body, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def number(text):
    """The first number of a text, as the page writes them."""
    found = re.search(r"([\d.,]+)([KM]?)", text or "")
    scale = {"": 1, "K": 1e3, "M": 1e6}[found[2]] if found else 1
    return float(found[1].replace(",", "")) * scale if found else None


class Page(unittest.TestCase):
    """One story, because each part of it needs what was before."""

    def setUp(self):
        self.browser = Chromium(os.environ["BOWLINE_BROWSER"])
        self.addCleanup(self.browser.close)
        self.clients = []
        self.addCleanup(self.end_clients)

    def end_clients(self):
        for client in self.clients:
            client.kill()
            client.wait()
            if client.stdout:
                client.stdout.close()

    def client(self, *arguments, **pipes):
        self.clients.append(bowline(*arguments, **pipes))

    def tile(self, name):
        return number(self.browser.text(f"#tile-{name} .value"))

    def pictures(self, name):
        """In both schemes and both widths; at each it must fit."""
        for scheme in ("dark", "light"):
            for width in ("wide", "narrow"):
                self.browser.scheme(scheme)
                self.browser.window(*(WIDE if width == "wide" else NARROW))
                over = self.browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                self.assertEqual(over, 0, f"{name}: {width}: it scrolls to the side")
                ground = self.browser.eval("getComputedStyle(document.body).backgroundColor")
                light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 384
                self.assertEqual(light, scheme == "light", f"{scheme}: the ground is {ground}")
                if PICTURES:
                    self.browser.picture(os.path.join(PICTURES, f"{name}-{scheme}-{width}.png"))
        self.browser.window(*WIDE)

    def test_the_page_shows_what_happens(self):
        self.browser.window(*WIDE)
        self.browser.open(f"{ADMIN}/")
        self.nobody_is_there()
        self.clients_come()
        self.events_flow_and_who_falls_behind_comes_first()
        self.a_connection_opens_by_keyboard_and_shows_its_sessions()
        self.a_log_level_for_a_time_is_shown()
        self.a_hidden_page_asks_nothing()
        # What is off the machine, or not as the policy has it, was not even tried.
        self.assertEqual(self.browser.complaints, [])
        self.a_drain_has_its_progress()
        self.a_server_that_is_gone_is_not_shown_as_if_it_were_there()

    def nobody_is_there(self):
        browser = self.browser
        browser.until("it is live", lambda: browser.text("#answer") == "live")
        self.assertEqual(browser.text("#phase"), "serving")
        self.assertEqual(self.tile("connections"), 0)
        self.assertGreater(self.tile("memory"), 1)
        self.assertEqual(browser.text("#connections"), "Nobody is connected.")
        self.assertIsNone(browser.text("#drain"), "there is no drain")
        self.pictures("idle")

    def clients_come(self):
        browser = self.browser
        for client in range(5):
            self.client("sub", "prices", "--client-id", f"desk-{client}")
        # It grants no more credit than is read of it, and nobody reads: more and more will wait.
        self.client("sub", "prices", "--client-id", "stuck", "--credit", "16", stdout=subprocess.PIPE)
        browser.until("six are connected", lambda: self.tile("connections") == 6)
        lines = "document.querySelectorAll('#connections tr').length"
        browser.until("six are listed", lambda: browser.eval(lines) == 6)
        browser.until("six read", lambda: self.tile("sessions") == 6)

    def flows(self):
        """Feeds the publisher what fits; true once the one that does not read is the first, and slow."""
        self.feeder.write(b"a price of something, long enough to fill the pipe of one who does not read\n" * 500)
        first = self.browser.text("#connections tr:first-child .name")
        return first == "stuck" and number(self.browser.text("#connections tr:first-child td:nth-child(6)")) == 1

    def events_flow_and_who_falls_behind_comes_first(self):
        browser = self.browser
        self.client("pub", "prices", "--rate", "400/s", stdin=subprocess.PIPE, bufsize=0)
        self.feeder = self.clients[-1].stdin
        self.addCleanup(self.feeder.close)
        os.set_blocking(self.feeder.fileno(), False)
        browser.until("the one that does not read is first, and slow", self.flows)
        browser.until("rates are shown", lambda: self.flows() and self.tile("in") > 50 and self.tile("out") > 250)
        self.assertGreater(self.tile("latency"), 0)
        self.assertGreater(number(browser.text("#connections tr:first-child td:nth-child(8)")), 512)
        self.assertEqual(browser.text("#topics tr:first-child .name"), "prices")
        points = "document.querySelector('#tile-out polyline').getAttribute('points').split(' ').length"
        self.assertGreater(browser.eval(points), 3, "a sparkline has a past")

    def a_connection_opens_by_keyboard_and_shows_its_sessions(self):
        browser = self.browser
        browser.eval("document.querySelector('#connections button').focus()")
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        browser.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
        browser.call("Input.dispatchKeyEvent", type="keyUp", **enter)
        browser.until("its session is shown", lambda: "on prices" in (browser.text("#connections .detail") or ""))
        self.assertEqual(browser.eval("document.activeElement.getAttribute('aria-expanded')"), "true")
        browser.until("it still flows", self.flows)
        self.pictures("loaded")

    def a_log_level_for_a_time_is_shown(self):
        ask("/log-level", "PUT", b'{"directives": "info,bowline::admin=debug", "ttl": "10m"}')
        level = lambda: self.browser.text("#log-level")
        self.browser.until("it is shown", lambda: "debug" in level())
        self.assertRegex(level(), "^info,bowline::admin=debug for (10|9) min .* more, then info$")

    def a_hidden_page_asks_nothing(self):
        browser = self.browser
        asked = "performance.getEntriesByType('resource').length"
        browser.hide(True)
        browser.until("it stops", lambda: browser.text("#answer") == "not looking")
        # A look that was under way comes to its end; then nothing for longer than two looks are apart.
        quiet = f"""(async () => {{
            const wait = (ms) => new Promise((done) => setTimeout(done, ms));
            await wait(1500);
            performance.clearResourceTimings();
            await wait(3000);
            return {asked};
        }})()"""
        self.assertEqual(browser.eval(quiet), 0)
        browser.hide(False)
        browser.until("it looks again", lambda: browser.text("#answer") == "live" and browser.eval(asked) > 0)

    def a_drain_has_its_progress(self):
        browser = self.browser
        os.kill(int(os.environ["BOWLINE_PID"]), signal.SIGTERM)
        browser.until("the drain is shown", lambda: browser.text("#drain"))
        self.assertRegex(browser.text("#phase"), "lame duck|draining")
        browser.until("all were told", lambda: "7 were told" in browser.text("#drain-text"))
        for client in self.clients[:3]:
            client.kill()
        left = "document.querySelector('#drain-progress').value"
        browser.until("three have left", lambda: browser.eval(left) >= 3)
        self.assertRegex(browser.text("#drain-text"), r"^[3-6] of 7 connections have left; 7 were told to move; whoever")
        self.pictures("draining")

    def a_server_that_is_gone_is_not_shown_as_if_it_were_there(self):
        browser = self.browser
        # A second signal ends the waiting.
        os.kill(int(os.environ["BOWLINE_PID"]), signal.SIGTERM)
        browser.until("it is said", lambda: re.match(r"no answer since \d+ s", browser.text("#answer")))
        self.assertTrue(browser.eval("document.body.classList.contains('stale')"))
        # What is complained of is that, and nothing else.
        others = [said for said in browser.complaints if "ERR_CONNECTION" not in said]
        self.assertEqual(others, [])


if __name__ == "__main__":
    unittest.main()
