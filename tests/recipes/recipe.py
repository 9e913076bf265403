"""docs/recipes.md as programs: a section's blocks with a name are files, its sh blocks one script. A recipe runs in a
folder of its own, on ports that are free; what it starts lives until the test ends."""
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from daemon import OFTD, ROOT, SLOW


def sections():
    """{title: [(language, name, text)]}"""
    with open(os.path.join(ROOT, "docs", "recipes.md")) as f:
        parts = re.split(r"^## (.*)\n", f.read(), flags=re.M)
    blocks = lambda text: re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, flags=re.M | re.S)
    return {title: blocks(text) for title, text in zip(parts[1::2], parts[2::2])}


def bound(port):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", port))
        return s
    except OSError:
        s.close()
        return None


def free_ports():
    """{the recipe's text: this run's}: 8080 and 8081, and 810 as the first digits of three in a row."""
    for tens in range(2000 + os.getpid() % 500 * 2, 6000, 2):
        sockets = [bound(tens * 10 + i) for i in (1, 2, 3, 11, 12)]
        for s in filter(None, sockets):
            s.close()
        if all(sockets):
            return {"8080": str(tens * 10 + 11), "8081": str(tens * 10 + 12), "127.0.0.1:810": f"127.0.0.1:{tens}"}
    raise AssertionError("no free ports")


class Recipe:
    def __init__(self, title, path=""):
        self.blocks, self.ports = sections()[title], free_ports()
        self.gateway = int(self.ports["8080"])
        self.folder = tempfile.TemporaryDirectory(prefix="recipe-")
        self.path = os.pathsep.join(filter(None, [path, os.path.dirname(OFTD), os.environ["PATH"], "/usr/sbin"]))

    def here(self, text):
        for theirs, ours in self.ports.items():
            text = text.replace(theirs, ours)
        return text

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def read(self, name):
        with open(self.file(name), errors="replace") as f:
            return f.read()

    def __enter__(self):
        for name in ("demo", "LICENSE"):
            os.symlink(os.path.join(ROOT, name), self.file(name))
        for _, name, text in self.blocks:
            if name:
                with open(self.file(name), "w") as f:
                    f.write(self.here(text))
        script = "".join(self.here(text) for language, name, text in self.blocks if language == "sh" and not name)
        with open(self.file(".log"), "w") as log:
            self.process = subprocess.Popen(["bash", "-euc", script + "\ntouch .done\nwait\n"], cwd=self.folder.name, stdout=log,
                                            stderr=subprocess.STDOUT, env={**os.environ, "PATH": self.path}, start_new_session=True)
        return self

    def run(self, timeout=60):
        """Waits until the script has come to its end; returns what it said."""
        end = time.time() + timeout * SLOW
        while time.time() < end and self.process.poll() is None:
            if os.path.exists(self.file(".done")):
                return self.read(".log")
            time.sleep(0.05)
        raise AssertionError(f"it ended with {self.process.poll()}, having said\n{self.read('.log')[-2000:]}")

    def __exit__(self, *_):
        for sig, patience in ((signal.SIGTERM, 30), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.process.pid, sig)
                self.process.wait(patience * SLOW)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.folder.cleanup()
