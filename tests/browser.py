"""A real headless Chromium for the tests of our pages: it opens a file, and a script of ours measures what it shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OWN_SERVICES = re.compile(r"^(https?|wss?)://([\w.-]+\.)?(google|googleapis|gstatic|gvt1|gvt2|chromium)\.\w+(/|:|$)")
"""What Chromium itself asks for at start, whatever page it opens."""

MEASURE = r"""
function luminance(c) {
  const part = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); };
  return 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
}
function numbers(text) { const n = text.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; }
function behind(e, view) {
  const stack = [];
  for (let at = e; at; at = at.parentElement) stack.push(numbers(view.getComputedStyle(at).backgroundColor));
  let base = [255, 255, 255];
  for (const c of stack.reverse()) base = base.map((v, k) => v * (1 - c[3]) + c[k] * c[3]);
  return base;
}
function measure(d) {
  const view = d.defaultView, root = d.documentElement, found = [];
  for (const e of d.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = view.getComputedStyle(e), svg = e instanceof view.SVGElement;
    const colour = svg && style.fill !== 'none' ? style.fill : style.color;
    const a = luminance(numbers(colour)), b = luminance(behind(e, view));
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40), e.tagName]);
  }
  found.sort((p, q) => p[0] - q[0]);
  const loose = [...d.querySelectorAll('table, pre, svg')].filter(e => {
    if (e.closest('.scroll')) return false;
    return e.getBoundingClientRect().right > root.clientWidth + 1;
  }).map(e => e.outerHTML.slice(0, 60));
  const word = d.querySelector('.verdict .word').getBoundingClientRect();
  const widths = (e, box) => [e.scrollWidth, box.clientWidth];
  const stacked = [...d.querySelectorAll('table.rows, table.plain')].map(e => widths(e, e.parentElement));
  return {
    wide: root.scrollWidth, seen: root.clientWidth, loose, stacked, contrast: found.slice(0, 3), texts: found.length,
    quantities: [...d.querySelectorAll('.quantities')].map(e => widths(e, e)),
    verdict: [word.top, word.bottom, word.left, word.right], text: d.querySelector('.verdict .word').textContent,
    page: numbers(view.getComputedStyle(d.body).backgroundColor), height: root.scrollHeight,
    cut: [...d.querySelectorAll('td, th')].filter(e => e.scrollWidth > e.clientWidth + 1
      && view.getComputedStyle(e).overflow !== 'visible').length,
    headings: [...d.querySelectorAll('h1, h2, h3, h4')].map(e => Number(e.tagName[1])),
  };
}
"""


def find_chromium() -> str | None:
    """The browser's path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def browse(path: Path, *options: str, dark: bool = False) -> subprocess.CompletedProcess[str]:
    """What headless Chromium says of the page ``path``. It can reach no host by name."""
    found = find_chromium()
    assert found is not None, "the mark browser asks for Chromium"
    return subprocess.run(
        [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
         f"--user-data-dir={path.parent / 'profile'}", *options, path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def requests_of(path: Path, folder: Path) -> tuple[str, set[str]]:
    """Console messages of the page ``path``, and every address it made Chromium ask for beside itself."""
    log = folder / "net.json"
    done = browse(path, f"--log-net-log={log}", "--virtual-time-budget=2000", "--dump-dom")
    asked = set(re.findall(r'"url":"([a-z]+://[^"]*)"', log.read_text()))
    foreign = {u for u in asked if u != path.as_uri() and not u.startswith("chrome") and not OWN_SERVICES.match(u)}
    return "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line), foreign


def measured(text: str, folder: Path, *, width: int = 1200, height: int = 800, dark: bool = False) -> dict[str, Any]:
    """What a page of this HTML shows ``width`` pixels wide: see ``measure`` in :data:`MEASURE`.

    The page is framed, as headless Chromium has no window narrower than 500 pixels; the frame's page has our script.
    """
    frame = folder / "frame.html"
    frame.write_text(
        '<!doctype html><html><head><meta name="color-scheme" content="light dark"></head><body style="margin:0">'
        f'<iframe style="width:{width}px;height:{height}px;border:0" srcdoc="{escape(text, quote=True)}"></iframe>'
        f"<script>{MEASURE}\nonload = () => {{ const p = document.createElement('pre'); p.id = 'found';"
        "p.textContent = JSON.stringify(measure(document.querySelector('iframe').contentDocument));"
        "document.body.append(p); }</script></body></html>",
        encoding="utf-8",
    )
    size = f"--window-size={max(width, 500)},{height}"
    shown = browse(frame, size, "--virtual-time-budget=4000", "--dump-dom", dark=dark).stdout
    told = re.search(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)
    assert told is not None, shown[-2000:]
    content = told[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    result: dict[str, Any] = json.loads(content)
    return result
