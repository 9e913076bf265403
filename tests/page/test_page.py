"""The page in a real browser: what a person sees, does with a mouse, does without one, and hears. The daemon's own
answers are the oracle. A console that says more than the refusals that a test provokes fails it."""
import atexit
import contextlib
import functools
import re
import tempfile

from selenium.webdriver.common.keys import Keys

from browser import Browser
from daemon import ADAPTERS, Daemon, eventually

PROMPT = "The old house was"


def daemon():
    return Daemon("--adapter-dir", ADAPTERS, adapters=["austen", "devil"])


@contextlib.contextmanager
def opened(d, refusals=0):
    """The page of d, ready; at the end its console holds so many refusals (None: any number) and nothing else."""
    b = browser()
    b.open(d.url + "/")
    try:
        b.until(lambda: b.text("#state") == "ready" and b.all("#voices input"), "the page")
        yield b
    except Exception:
        b.shot("failed")
        raise
    said = b.console()
    refused = [s for s in said if re.search(r"Failed to load resource: the server responded with a status of 4\d\d", s)]
    assert refusals in (None, len(refused)) and len(said) == len(refused), said


@functools.cache
def started():
    b = Browser()
    atexit.register(b.close)
    return b


def browser():
    """The one browser of all tests, as new: an empty page, nothing said, light, of the width of a desk."""
    b = started()
    b.open("about:blank")
    b.look(1280, 900, "light")
    b.console()
    return b


def row(b, name):
    """Selector of an adapter's row, once it is listed."""
    names = b.until(lambda: (n := b.js("return [...document.querySelectorAll('#adapters h3')].map((h) => h.textContent)"))
                    and name in n and n, f"the row of {name}")
    return f"#adapters > li:nth-child({names.index(name) + 1})"


def first_difference(d, voice, n):
    """(place, the base's token, the voice's), as the API tells without the page; None: the same."""
    ids, texts = [], []
    for adapter in (None, voice):
        fields = {"adapter": adapter} if adapter else {}
        c = d.complete(PROMPT, max_tokens=n, return_token_ids=True, logprobs=0, **fields)["choices"][0]
        ids.append(c["token_ids"])
        texts.append(c["logprobs"]["tokens"])
    return next(((i, texts[0][i], texts[1][i]) for i, (x, y) in enumerate(zip(*ids)) if x != y), None)


def run(b, n=24):
    b.fill("#max-tokens", str(n))
    b.click("#run")
    b.until(lambda: b.text("#compare-note").startswith("Done"), "the end of the streams")


def test_streams_and_marks_the_first_difference(d):
    with opened(d) as b:
        run(b)
        voices = [h.text for h in b.all("#columns h3")]
        assert voices == ["base", "austen", "devil", "jargon", "scripture"], "two of them were loaded on demand"
        for i, voice in enumerate(voices, 1):
            column = f"#columns article:nth-child({i})"
            whole = d.complete(PROMPT, max_tokens=24, **({"adapter": voice} if i > 1 else {}))["choices"][0]["text"]
            shown = b.js("const c = document.querySelector(arguments[0]).cloneNode(true);"
                         "c.querySelectorAll('.spoken').forEach((s) => s.remove()); return c.textContent", column + " .text")
            assert shown == whole.removeprefix(" "), (voice, shown, whole)
            if i == 1:
                assert not b.all(column + " mark")
                continue
            place, there, here = first_difference(d, voice, 24)
            assert len(b.all(column + " mark")) == 1
            assert b.text(column + " mark") == f"[first difference, token {place + 1}:] {here.strip()}"
            assert f"at token {place + 1}: “{here.strip()}” for “{there.strip()}”" in b.text(column + " .note")
        assert b.text("#compare-note") == "Done. 4 of 4 differ from base"
        b.shot("compare")


def test_tokens_come_one_by_one_and_stop(d):
    with opened(d) as b:
        for voice in ("austen", "devil", "jargon", "scripture"):
            b.click(f"#voices input[value={voice}]")
        b.fill("#max-tokens", "900")
        b.click("#run")
        seen = [b.until(lambda: b.js("return document.querySelectorAll('#columns .text span').length"), "a token")]
        b.until(lambda: b.js("return document.querySelectorAll('#columns .text span').length") > seen[0], "another")
        eventually(lambda: d.metrics()["oftd_num_requests_running"] == 1, what="one running")
        b.click("#stop")
        b.until(lambda: b.text("#compare-note").startswith("Done"), "the end")
        assert b.js("return document.querySelectorAll('#columns .text span').length") < 900
        eventually(lambda: d.metrics()["oftd_num_requests_running"] == 0, what="the slot is free")


def test_loads_replaces_unloads(d):
    for name in ("jargon", "scripture"):
        d.call("DELETE", f"/v1/adapters/{name}")
    with opened(d) as b:
        b.until(lambda: "available" in b.text(row(b, "scripture")), "an adapter of the roots")
        b.click("[aria-label='Load scripture']")
        b.until(lambda: "ready" in b.text(row(b, "scripture") + " .state"), "scripture")
        told = d.ok("GET", "/v1/adapters/scripture")
        facts = b.text(row(b, "scripture") + " dl")
        assert told["digest"][7:19] in facts and f"{told['modules']['matched']} of {told['modules']['total']}" in facts
        assert f"orthogonality defect{told['orthogonality_defect']:.2g}".replace("e-0", "e-") in facts, facts

        b.click("[aria-label='Replace… scripture']")
        b.fill("#load-path", "jargon")
        b.click("#load-submit")
        b.until(lambda: "generation" in b.text("#adapters-note"), "the replacement")
        now = d.ok("GET", "/v1/adapters/scripture")
        assert now["generation"] > told["generation"] and now["digest"] != told["digest"]
        b.until(lambda: now["digest"][7:19] in b.text(row(b, "scripture") + " dl"), "the new digest")

        b.click("[aria-label='Unload scripture']")
        b.until(lambda: "available" in b.text(row(b, "scripture")), "the unload")
        assert d.get("/v1/adapters/scripture").status == 404 or d.ok("GET", "/v1/adapters/scripture")["state"] == "available"


def test_a_refused_load_tells_every_finding(d):
    with opened(d, refusals=1) as b:
        b.click("#load-open")
        b.fill("#load-name", "nothing")
        b.fill("#load-path", "no-such-folder")
        b.click("#load-submit")
        b.until(lambda: b.all(".refusal"), "the refusal")
        r = d.post("/v1/adapters", {"name": "nothing", "path": "no-such-folder"})
        said = b.text(".refusal")
        assert f"{r.status} {r.code()}" in said and r.json()["error"]["message"] in said, said
        for f in r.json()["error"].get("details", {}).get("findings", []):
            assert f["code"] in said and f["message"] in said
        b.click("[aria-label='Forget nothing']")
        b.until(lambda: not b.all("[aria-label='Forget nothing']"), "that it is forgotten")
        assert d.get("/v1/adapters/nothing").status == 404


def test_merges_and_unmerges(d):
    with opened(d) as b:
        b.click("[aria-label='Merge… austen']")
        b.click("#merge-form .primary")
        b.until(lambda: b.all(row(b, "austen") + " figure.merge svg.report"), "the report")
        assert d.ok("GET", "/v1/merge")["merged"][0]["adapters"] == ["austen"]
        modules = d.ok("GET", "/v1/merge")["merged"][0]["modules"]
        assert len(b.all("svg.report .bar")) == modules == len(b.js("return [...document.querySelectorAll('.merge tbody tr')]"))
        b.until(lambda: b.text(row(b, "austen") + " .state") == "merged, pinned", "the state")
        b.js("arguments[0].scrollIntoView({block: 'center'})", b.find("svg.report"))
        b.shot("merged")
        b.click("[aria-label='Unmerge austen']")
        b.until(lambda: "original bytes" in b.text("#adapters-note"), "the unmerge")
        assert d.ok("GET", "/v1/merge")["merged"] == []
        b.until(lambda: b.all("[aria-label='Merge… austen']"), "the buttons of before")


def test_a_report_only_merge_changes_nothing(d):
    with opened(d) as b:
        b.click("[aria-label='Merge… devil']")
        b.click("#merge-dry")
        b.click("#merge-form .primary")
        b.until(lambda: b.all("svg.report"), "the report")
        assert b.text(".merge figcaption").startswith("Would merge")
        assert d.ok("GET", "/v1/merge")["merged"] == []


def test_a_refused_merge_shows_its_code_and_words(d):
    with opened(d, refusals=1) as b:
        b.click("[aria-label='Merge… devil']")
        b.fill("#merge-bound", "0.001")
        b.click("#merge-form .primary")
        b.until(lambda: b.all(row(b, "devil") + " .refusal"), "the refusal")
        r = d.post("/v1/merge", {"adapter": "devil", "max_error": {"rel_fro": 0.001}})
        assert b.text(".refusal") == f"{r.status} {r.code()} {r.json()['error']['message']}"
        assert "409 merge_error_above_bound" in b.text(".refusal")


def test_in_place_the_other_voices_say_why_not(d):
    d.ok("POST", "/v1/merge", {"adapter": "austen", "mode": "in_place"})
    try:
        with opened(d, refusals=2) as b:
            for voice in ("jargon", "scripture"):
                b.click(f"#voices input[value={voice}]")
            run(b)
            refused = [r.text for r in b.all("#columns .refusal")]
            assert len(refused) == 2 and all(r.startswith("409 model_is_merged") for r in refused), refused
            assert b.text("#columns article:nth-child(2) .text"), "austen still speaks"
    finally:
        d.ok("POST", "/v1/unmerge", {})


def test_live_figures(d):
    """The page looks once a second, and streams may be over sooner: they are begun again until it has seen them."""
    with opened(d) as b:
        b.fill("#max-tokens", "900")
        figures = {"a rate": lambda: float(b.text("#rate").replace("–", "0")) > 0,
                   "what runs": lambda: not b.text("#queue").startswith(("0,", "–")),
                   "KV in use": lambda: b.text("#kv") not in ("0", "–")}
        for what, seen in figures.items():
            b.until(lambda: seen() or b.js("const run = document.querySelector('#run'); if (!run.disabled) run.click();"), what)
        points = b.find("#rate-plot .line-0").get_attribute("points").split()
        assert len(points) >= 2 and any(float(p.split(",")[1]) < 31 for p in points)
        b.shot("live")
        b.js("document.querySelector('#stop').click()")


def test_the_key_box():
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as api, tempfile.NamedTemporaryFile("w", suffix=".keys") as admin:
        api.write("speak\n")
        admin.write("rule\n")
        api.flush()
        admin.flush()
        with Daemon("--api-key-file", api.name, "--admin-key-file", admin.name, "--adapter-dir", ADAPTERS, adapters=["austen"]) as d:
            assert d.get("/").status == 200, "open, as the contract says"
            b = browser()
            b.open(d.url + "/")
            b.until(lambda: b.find("#key-form").is_displayed(), "the key box")
            assert b.focus() == "API key or admin key" and not b.all("#voices input")
            b.press("wrong", Keys.ENTER)
            b.until(lambda: "valid key" in b.text("#key-note") and b.find("#key-form").is_displayed(), "a refusal")
            b.shot("key")
            b.fill("#key", "speak")
            b.press(Keys.ENTER)
            b.until(lambda: b.all("#voices input[value=austen]"), "the voices")
            assert not b.find("#key-form").is_displayed() and not b.all("#adapters li")
            b.until(lambda: "admin" in b.text("#adapters-note"), "why there are no adapters")
            b.click("#key-open")
            b.fill("#key", "rule")
            b.press(Keys.ENTER)
            b.until(lambda: b.all("#adapters li"), "the adapters")
            run(b, 4)
            assert not b.all(".refusal")
            b.driver.refresh()
            b.until(lambda: b.all("#adapters li"), "the key is still there after a reload")
            b.click("#key-open")
            b.click("#key-forget")
            b.until(lambda: "asks for a key" in b.text("#key-note"), "it is forgotten")
            assert b.js("return sessionStorage.length + localStorage.length + document.cookie.length") == 0
            said = b.console()
            assert all("status of 40" in s for s in said), said


def test_the_policy_holds(d):
    """What a script smuggled into the page would try; the console is also seen to tell of it."""
    with opened(d) as b:
        def told(what):
            return b.until(lambda: [s for s in b.console() if what in s], what)
        b.js("document.body.setAttribute('style', 'color: red')")
        assert told("Applying inline style violates")
        b.js("document.head.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.2:1/x.png'}))")
        assert told("img-src")
        b.js("fetch('http://127.0.0.2:1/x').catch(() => {})")
        assert told("connect-src")
        assert b.js("try { document.body.innerHTML = '<b>x</b>'; return false } catch { return true }")
        assert told("TrustedHTML")


def test_where_the_admin_plane_is_elsewhere():
    """The voices are there, the adapters' section says why it is empty: the only thing that the console tells, too."""
    with tempfile.TemporaryDirectory() as folder:
        with Daemon("--admin-listen", f"unix:{folder}/admin", adapters=["austen"]) as d, opened(d, refusals=None) as b:
            assert [v.get_attribute("value") for v in b.all("#voices input")] == ["base", "austen"]
            assert b.text("#adapters-note") == "Adapters are administrated at another address of this server."
            assert not b.find("#load-open").is_displayed()
            run(b, 8)
            assert b.text("#compare-note") == "Done. 1 of 1 differ from base"


def test_a_daemon_that_goes_is_told_and_found_again():
    with Daemon() as d:
        port, b = d.port, browser()
        b.open(d.url + "/")
        b.until(lambda: b.text("#state") == "ready", "the page")
    b.until(lambda: b.text("#state") == "no answer", "that it is gone")
    with Daemon(listen=f"127.0.0.1:{port}", adapters=["austen"]):
        b.until(lambda: b.text("#state") == "ready" and b.all("[aria-label='Merge… austen']"), "that it is back")
    b.open("about:blank")


def test_without_a_mouse(d):
    """Tab, space, enter and escape alone: run, merge, refuse, unmerge; the focus is never lost."""
    with opened(d) as b:
        b.js("document.activeElement.blur()")
        order, seen = [], None
        for _ in range(40):
            b.press(Keys.TAB)
            seen = b.focus()
            order.append(seen)
            if seen == "Unload devil":
                break
        wanted = ["Skip to the prompt", "Prompt", "base", "austen", "Tokens", "Temperature", "Seed", "Run", "Load…",
                  "Replace… austen", "Merge… austen", "Unload austen", "Unload devil"]
        places = [order.index(w) for w in wanted]
        assert places == sorted(places) and all(order), order
        while b.focus() != "Prompt":
            b.chord(Keys.SHIFT, Keys.TAB)
        b.chord(Keys.CONTROL, Keys.ENTER)
        b.until(lambda: b.text("#compare-note").startswith("Done"), "the streams")
        for _ in range(40):
            if b.focus() == "Merge… austen":
                break
            b.press(Keys.TAB)
        b.press(Keys.ENTER)
        assert b.focus() == "Where", "the dialog has the focus"
        b.press(Keys.ESCAPE)
        assert b.focus() == "Merge… austen" and not b.all("dialog[open]"), "and gives it back"
        b.press(Keys.ENTER)
        b.press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB)
        assert b.focus() == "Merge", b.focus()
        b.press(Keys.ENTER)
        b.until(lambda: b.all("svg.report") and b.focus() == "Unmerge austen", "the focus on what can be done now")
        b.press(Keys.ENTER)
        b.until(lambda: b.focus() in ("Replace… austen", "austen"), "the focus in the row")
        assert d.ok("GET", "/v1/merge")["merged"] == []


WIDGETS = {"button", "checkbox", "textbox", "spinbutton", "combobox", "link", "image", "heading", "group", "region",
           "dialog", "article", "DisclosureTriangle", "radio"}


def test_what_a_screen_reader_gets(d):
    with opened(d) as b:
        run(b)
        b.click("[aria-label='Merge… devil']")
        names = [(r, n) for r, n in b.tree() if r in WIDGETS]
        assert ("dialog", "Merge devil") in names and ("combobox", "Where") in names
        b.click("#merge-dry")
        b.click("#merge-form .primary")
        b.until(lambda: b.all("svg.report"), "the report")
        tree = b.tree()
        nameless = [(r, n) for r, n in tree if r in WIDGETS and not n and not (r == "group" and n == "")]
        assert not nameless, nameless
        assert {"banner", "main", "status", "list", "listitem", "term", "definition", "mark"} <= {r for r, _ in tree}
        images = [n for r, n in tree if r == "image"]
        assert any("relative error" in n for n in images), "the chart in words"
        assert b.js("return document.documentElement.lang") == "en"
        ids = b.js("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids)), "ids are unique"


def contrast(b):
    """The least contrast of text that can be seen, against what is painted behind it (WCAG 2's ratio), and whose it is."""
    return b.js("""
      const lum = (c) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
      const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
      const behind = (e) => { for (; e; e = e.parentElement) {
        const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
      let worst = [99, ""];
      for (const e of document.body.querySelectorAll("*")) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest("svg, :disabled"))
          continue;
        const a = lum(rgb(getComputedStyle(e).color)), z = lum(behind(e));
        const ratio = (Math.max(a, z) + 0.05) / (Math.min(a, z) + 0.05);
        if (ratio < worst[0]) worst = [ratio, e.tagName + " " + e.className + " " + e.textContent.slice(0, 40)];
      }
      return worst;""")


def test_light_dark_and_the_width_of_a_phone(d):
    with opened(d, refusals=1) as b:
        run(b)
        b.click("[aria-label='Merge… devil']")
        b.fill("#merge-bound", "0.001")
        b.click("#merge-form .primary")
        b.until(lambda: b.all(".refusal"), "a refusal to look at")
        papers = set()
        for scheme in ("light", "dark"):
            for width, height in ((1280, 900), (360, 780)):
                b.look(width, height, scheme)
                b.js("scrollTo(0, 0)")
                assert b.js("return document.documentElement.scrollWidth") == width, f"{width}: it scrolls sideways"
                assert b.shot(f"{scheme}-{width}")
                ratio, whose = contrast(b)
                assert ratio >= 4.5, (scheme, ratio, whose)
            papers.add(b.js("return getComputedStyle(document.body).backgroundColor"))
        assert len(papers) == 2
        small = b.js("return [...document.querySelectorAll('button, input, select, textarea, summary')]"
                     ".filter((e) => e.checkVisibility()).map((e) => [e.textContent || e.id, (e.closest('label.chip') || e).getBoundingClientRect().height])"
                     ".filter(([, h]) => h < 24)")
        assert not small, f"too small for a finger: {small}"
