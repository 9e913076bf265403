"""Exports that are cut short: by a kill, by a full disk, by a limit. A folder has its name when it is whole."""
import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time

from daemon import SLOW, Daemon, eventually, oftd
from run import Skip

BODY = {"adapter": "austen", "path": "merged", "dtype": "float32"}


def serve(out):
    return Daemon("--export-dir", out, adapters=["austen"])


def export_now(d, out):
    """Exports, checks it, removes it."""
    d.ok("POST", "/v1/export", BODY)
    assert whole(out) and os.listdir(out) == ["merged"], os.listdir(out)
    subprocess.run(["rm", "-r", f"{out}/merged"], check=True)


def whole(out):
    """Is there a complete checkpoint of the final name?"""
    if not os.path.exists(f"{out}/merged"):
        return False
    code, _, err = oftd("inspect", f"{out}/merged", "--json")
    assert code == 0, f"a half folder has the final name: {err}"
    return True


def refused(d, out):
    """The export fails with its code, leaves nothing, and the daemon serves on."""
    r = d.post("/v1/export", BODY)
    assert (r.status, r.code()) == (500, "io_error"), r.body
    assert "merged" in r.json()["error"]["message"], r.body
    assert os.listdir(out) == [], os.listdir(out)
    assert d.complete("It is", model="austen", max_tokens=3)["usage"]["completion_tokens"] == 3


def test_a_limit_on_file_sizes():
    with tempfile.TemporaryDirectory() as out, serve(out) as d:
        for size in (1 << 10, 1 << 16, 1 << 20):
            log = os.path.getsize(d.log.name)
            resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (log + size, resource.RLIM_INFINITY))
            refused(d, out)
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        export_now(d, out)


@contextlib.contextmanager
def small_disk(size):
    """A file system of this size, where we may mount one."""
    with tempfile.TemporaryDirectory() as at:
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], capture_output=True)
        if r.returncode:
            raise Skip("may not mount a file system")
        try:
            yield at
        finally:
            subprocess.run(["umount", at], check=True)


def test_a_full_disk():
    for size in ("64k", "2m", "8m"):
        with small_disk(size) as out, serve(out) as d:
            refused(d, out)
            refused(d, out)
            subprocess.run(["mount", "-o", "remount,size=100m", out], check=True)
            export_now(d, out)


def killed(out, delay):
    """Kills the daemon that long after its export has begun to write. Was it in the midst of it?"""
    d = serve(out)

    def ask():
        with contextlib.suppress(Exception):
            d.post("/v1/export", BODY)
    t = threading.Thread(target=ask)
    t.start()
    eventually(lambda: os.listdir(out), what="the first file")
    time.sleep(delay)
    assert d.stop(signal.SIGKILL) == -signal.SIGKILL
    d.log.close()
    t.join()
    return not whole(out)


def test_killed():
    with tempfile.TemporaryDirectory() as out:
        with serve(out) as d:
            start = time.time()
            export_now(d, out)
            duration = time.time() - start
        cut = 0
        for i in range(8 if SLOW == 1 else 3):
            cut += killed(out, duration * i / 8)
            subprocess.run(["rm", "-rf", f"{out}/merged"], check=True)
        assert cut > 0, "no kill came during an export"
        with serve(out) as d:  # what the dead left behind is removed by the next one
            export_now(d, out)
