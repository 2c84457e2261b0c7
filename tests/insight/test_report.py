"""The page: everything escaped, nothing fetched, the numbers right; and in a browser, when there is one."""

import html
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from flanx.insight.distribution import weighted
from flanx.insight.planned import Plan
from flanx.insight.report import default_path, write
from flanx.insight.report.histogram import histogram
from flanx.insight.report.page import number, share
from flanx.insight.report.texts import middle_out, visible

BAD = "<script>document.title='owned'</script>\u202egnp.exe\x07 </pre>\u2047"
TASKS = {
    "games.chess.zs_opt": [(f"move {i} of {BAD}", f"e{i}") for i in range(30)],
    "games.go.zs_opt": [(f"stone {i}", "black" if i % 2 else "white") for i in range(10)],
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page(make):
    """The report of two tasks, one left out, over 25 planned steps of 8 rows; its path."""
    manifest, folder = make(
        TASKS,
        limits={"inputs": 128, "targets": 8},
        rates={"games.chess.zs_opt": 1, "games.go.zs_opt": 3},
        dropped={"games.go.zs_opt": {"filter:length": 7}},
        left_out={"games.empty<i>.zs_opt": {"empty target": 12}},
    )
    odd = replace(manifest.entries[1], category='"><img src=x onerror=alert(1)>')
    manifest = replace(manifest, entries=(manifest.entries[0], odd))
    other = replace(manifest, split="validation", entries=manifest.entries[1:])
    path = folder / "reports" / "out.html"
    write(path, [manifest, other], folder, Plan(25, 8, block_size=400))
    return path


def test_texts_cannot_become_markup(page):
    content = page.read_text()
    assert content.count("<script>") == 1  # the page's own
    assert "<img" not in content and "games.empty<i>" not in content
    assert "\u202e" not in content and "\x07" not in content
    assert '<span class="ctl">\\u202e</span>gnp.exe<span class="ctl">\\x07</span>' in content
    assert html.escape("<script>document.title=") in content


def test_nothing_is_fetched(page):
    content = page.read_text()
    assert "default-src 'none'" in content
    assert set(re.findall(r"(?:src|href)=\"([^#][^\"]*)", content)) == {"data:,"}
    assert "url(" not in content and "@import" not in content


def test_counts_shares_epochs_and_losses_stand_there(page):
    content = page.read_text()
    rows = dict(
        re.findall(
            r'<tr><th scope="row"><a href="#t\d"><bdi>(.*?)</bdi></a></th>(.*?)</tr>', content
        )
    )
    cells = {
        name: re.findall(r"<td[^>]*>(?:<bdi>)?(.*?)(?:</bdi>)?</td>", row)
        for name, row in rows.items()
    }
    assert set(cells) == set(TASKS)
    chess, go = cells["games.chess.zs_opt"], cells["games.go.zs_opt"]
    assert (chess[1], go[1]) == ("25%", "75%")
    assert (chess[4], go[4]) == ("30", "10")
    assert (go[9], go[10]) == ("7", "50%")
    per_row = float(re.search(r"<b>([\d.]+)</b><span>examples a row", content).group(1))
    seen = 25 * 8 * per_row
    assert float(chess[3]) == pytest.approx(seen * 0.25 / 30, rel=0.05)
    assert float(go[3]) == pytest.approx(seen * 0.75 / 10, rel=0.05)
    for reason, count in (("filter:length", 7), ("empty target", 12)):
        assert f'{reason}</th><td class="n">{count}</td>' in content
    assert "play · validation" in content


def test_characters_that_are_lost_stand_beside_their_task(make):
    names = list(TASKS)
    lost = {names[0]: {"<": 1204, "\u202e": 3}}
    manifest, folder = make(TASKS, limits={"inputs": 128, "targets": 8}, unwritable=lost)
    write(folder / "out.html", [manifest], folder, Plan())
    content = (folder / "out.html").read_text()
    section = content[content.index('id="unwritable"') : content.index('id="tasks"')]
    assert names[0] in section and names[1] not in section
    assert "&#34;&lt;&#34; (1,204), &#34;\\u202e&#34; (3)" in section
    assert '<td class="n">1,207</td>' in section


def test_a_store_that_does_not_say_what_is_lost_has_no_section(page):
    assert 'id="unwritable"' not in page.read_text()


def test_a_vocabulary_that_is_gone_costs_only_the_texts(make):
    manifest, folder = make({"a.one.zs_opt": [("question", "answer")] * 3})
    gone = replace(manifest, vocabulary={**manifest.vocabulary, "spec": "/nowhere/spiece.model"})
    write(folder / "out.html", [gone], folder, Plan())
    content = (folder / "out.html").read_text()
    assert "Tokens cannot be shown as text" in content and "/nowhere/spiece.model" in content
    assert "<code>--steps</code>" in content  # epochs are not known either


def test_large_mixtures_get_shorter_texts(make, monkeypatch):
    monkeypatch.setattr("flanx.insight.report.page.TEXT_BYTES", 2_000)
    manifest, folder = make(
        {f"a.t{i}.zs_opt": [("x" * 900, f"{i}")] for i in range(5)},
        limits={"inputs": 1024, "targets": 8},
    )
    write(folder / "out.html", [manifest], folder, Plan())
    content = (folder / "out.html").read_text()
    assert content.count("characters …") == 5
    assert content.count("x" * 240) == 5 and "x" * 401 not in content


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_in_a_browser(page, tmp_path):
    """The script runs without an error: it sorts, filters, and opens the example that a link names."""
    probe = """
    <script>
      addEventListener("error", (event) => { document.title = "error: " + event.message; });
      addEventListener("securitypolicyviolation", () => { document.title = "blocked"; });
    </script>"""
    act = """
    <script>
      const links = () => document.querySelectorAll("#tasktable tbody tr:not([hidden]) a");
      const names = () => Array.from(links(), (a) => a.textContent);
      const buttons = document.querySelectorAll("#tasktable thead button");
      const out = {given: names()};
      buttons[2].click(); out.byShare = names();
      buttons[2].click(); out.byShareUp = names();
      const field = document.getElementById("filter");
      field.value = "CHESS zs"; field.dispatchEvent(new Event("input"));
      out.filtered = names(); out.shown = document.getElementById("shown").textContent;
      out.open = Array.from(document.querySelectorAll("details.task[open]"), (d) => d.id);
      const pre = document.createElement("pre"); pre.id = "probe"; pre.textContent = JSON.stringify(out);
      document.body.append(pre);
    </script></body>"""
    content = page.read_text()
    as_shipped = _dom(page, tmp_path)
    assert 'data-ready="yes"' in as_shipped and "<title>play · train · flanx</title>" in as_shipped
    without_policy = re.sub(r"<meta http-equiv.*?>", probe, content).replace("</body>", act)
    acted = tmp_path / "acted.html"
    acted.write_text(without_policy)
    dom = _dom(acted, tmp_path, "#t1")
    assert "<title>play · train · flanx</title>" in dom
    found = html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom).group(1))
    chess, go = '["games.chess.zs_opt"', '["games.go.zs_opt"'
    assert f'"given":{chess}' in found and f'"byShare":{go}' in found
    assert f'"byShareUp":{chess}' in found
    assert f'"filtered":{chess}],"shown":"1 task","open":["t1"]' in found


def _dom(path, folder, fragment=""):
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", f"file://{path}{fragment}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_what_is_invisible_is_written_out():
    assert visible("a<b\n\t\u2066c\x00") == (
        'a&lt;b\n\t<span class="ctl">\\u2066</span>c<span class="ctl">\\x00</span>'
    )


def test_long_texts_keep_both_ends():
    text = "é" * 50 + "end"
    head, gap, tail = middle_out(text, 40)
    assert (head, tail) == ("é" * 12, "é" * 6 + "end")
    assert len(head) + gap + len(tail) == len(text)
    assert middle_out("short", 40) == ("short", 0, "")


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "12%"), (0.000123, "0.012%"), (0, "0"), (1, "100%"), (None, "—")]
)
def test_shares_show_two_digits(value, text):
    assert share(value) == text


def test_numbers():
    assert [number(v, 3) for v in (5.3361, 192.4, 12345.6, None)] == ["5.34", "192", "12,346", "—"]


def test_bars_hold_every_example():
    lengths = weighted([(1.0, np.r_[np.full(60, 3), np.full(39, 90), 100], 0.01)], 100, 250)
    drawn = histogram("inputs", lengths)
    shares = [float(re.search(r": ([\d.]+)%", bar.label).group(1)) for bar in drawn.bars]
    assert sum(shares) == pytest.approx(100)
    assert [bar.cut for bar in drawn.bars] == [False] * (len(drawn.bars) - 1) + [True]
    assert [mark.label for mark in drawn.marks] == ["50% up to 3", "95% up to 90", "99% up to 90"]


def test_default_path(tmp_path):
    assert default_path(tmp_path, "a-train-1") == tmp_path / "reports" / "a-train-1.html"
