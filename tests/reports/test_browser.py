"""The site in headless Chromium, from disk: it sorts, filters, walks, overlays, compares, asks no host, pleases axe.

Needs Debian's `chromium` and `chromium-driver`, `pip install selenium`, and npm's `axe-core` (`npm install axe-core`
anywhere above this file, or its folder in $AXE_CORE). .ci/run installs them; without them these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap

from diffmatch.records.folder import RunFolder
from diffmatch_reports import write_report
from diffmatch_reports.compare import RESAMPLES, Terms, terms
from diffmatch_reports.load import load_run
from diffmatch_reports.names import run_name

PLACES = [
    Path(os.environ.get("AXE_CORE", "axe-core")),
    *(parent / "node_modules/axe-core" for parent in Path(__file__).parents),
]
AXE = next((place / "axe.min.js" for place in PLACES if (place / "axe.min.js").is_file()), None)
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOW = (
    "needs chromium and chromium-driver (apt-get), axe-core (npm, or $AXE_CORE) and selenium (pip), "
    "as .ci/run installs them"
)

selenium = pytest.importorskip("selenium", reason=HOW)
if not (AXE and BROWSER and DRIVER):
    pytest.skip(HOW, allow_module_level=True)

from selenium.webdriver import Chrome, ChromeOptions, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

Write = Callable[..., RunFolder]


class Site:
    """The report of five runs and the browser that shows it."""

    def __init__(self, root: Path, runs: dict[str, RunFolder], browser: Chrome) -> None:
        self.root, self.runs, self.browser = root, runs, browser

    def name(self, run: str) -> str:
        return run_name(self.runs[run].path, self.runs[run].record())

    def open(self, page: str, *, dark: bool = False, width: int = 1300) -> Chrome:
        """Open a page of the site, in a colour scheme and a window of a width."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.browser.set_window_size(width, 1000)
        path, *anchor = page.split("#")
        self.browser.get("about:blank")
        self.browser.get("#".join([(self.root / path).as_uri(), *anchor]))
        return self.browser

    def find(self, css: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[Any]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, css))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, write_run: Write) -> Iterator[Site]:
    """One browser and one site for the module."""
    folder = tmp_path_factory.mktemp("browser")
    evil = "<script>alert(1)</script>"
    runs = {
        "full": write_run(folder / "a", overrides={}),
        "second": write_run(folder / "b", seed=1, overrides={}),
        "weak": write_run(folder / "c", method="fixmatch", skill=2.5, light=True),
        "failed": write_run(folder / "d", method=evil, status="failed", full=False),
        "others": write_run(folder / "e", dataset="other", light=True, sha="00" * 32),
    }
    (folder / "f").mkdir()
    (folder / "f" / "run.json").write_text('{"schema": 1, "status": "do')
    write_report([*runs.values(), RunFolder(folder / "f")], folder / "site")
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    with tempfile.TemporaryDirectory() as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = Chrome(options=options, service=Service(executable_path=DRIVER))
        yield Site(folder / "site", runs, browser)
        browser.quit()


def kinds(site: Site) -> dict[str, str]:
    """One page of each kind."""
    return {
        "overview": "index.html",
        "leaderboard": "datasets/acdc.html",
        "run": f"runs/{site.name('full')}.html",
        "failed run": f"runs/{site.name('failed')}.html",
        "table": "tables/15.html",
        "figure": str(next((site.root / "figures").glob("*-4.html")).relative_to(site.root)),
        "comparison": f"compare.html#a={site.name('full')}&b={site.name('weak')}",
    }


KINDS = ("overview", "leaderboard", "run", "failed run", "table", "figure", "comparison")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious(site: Site, kind: str, dark: bool) -> None:
    browser = site.open(kinds(site)[kind], dark=dark)
    ready(site, kind)
    assert AXE is not None
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in serious]


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_no_request_and_nothing_wider_than_the_window(site: Site, kind: str) -> None:
    site.browser.get_log("browser"), site.browser.get_log("performance")
    browser = site.open(kinds(site)[kind], width=420)
    ready(site, kind)
    assert not browser.get_log("browser")
    urls = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(url.startswith(("file://", "data:")) for url in urls)
    asked = [
        entry["message"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert not [message for message in asked if '"url":"http' in message]
    assert browser.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def ready(site: Site, kind: str) -> None:
    if kind == "comparison":
        WebDriverWait(site.browser, 10).until(lambda _: site.all("#answer .gist"))


def test_a_click_sorts_and_another_turns_it_round(site: Site) -> None:
    site.open("datasets/acdc.html")
    head = next(th for th in site.all("table.board thead th") if "last" in th.text)
    column = site.all("table.board thead th").index(head)

    def values() -> list[float]:
        cells = [
            row.find_elements(By.CSS_SELECTOR, "th, td")[column]
            for row in site.all("table.board")[0].find_elements(By.CSS_SELECTOR, "tbody tr")
        ]
        return [float(v) for cell in cells if (v := cell.get_attribute("data-value"))]

    button = head.find_element(By.TAG_NAME, "button")
    button.click()
    assert (
        head.get_attribute("aria-sort") == "descending"
        and values() == sorted(values(), reverse=True)
        and len(values()) > 2
    )
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending" and values() == sorted(values())


@pytest.mark.parametrize(("name", "value"), [("dataset", "other"), ("method", "fixmatch"), ("labels", "3")])
def test_a_filter_leaves_only_what_was_asked_for(site: Site, name: str, value: str) -> None:
    site.open("index.html")
    rows = site.all("table.filtered tbody tr")
    wanted = [row for row in rows if row.get_attribute(f"data-{name}") == value]
    Select(site.find(f"select[name={name}]")).select_by_visible_text(value)
    assert [row for row in rows if row.is_displayed()] == wanted and wanted
    if len(wanted) < len(rows):
        assert site.find(".filters output").text == f"{len(wanted)} of {len(rows)} rows"
    Select(site.find(f"select[name={name}]")).select_by_visible_text("all")
    assert all(row.is_displayed() for row in rows)


def test_val_and_oracle_are_hidden_until_asked_for(site: Site) -> None:
    site.open("datasets/acdc.html")
    for key in ("val", "oracle"):
        cells = site.all(f".of-{key}")
        assert cells and not any(cell.is_displayed() for cell in cells)
        site.find(f"input[value={key}]").click()
        assert all(cell.is_displayed() for cell in cells) and site.find(f".about-{key}").is_displayed()
    assert "not a result" in site.find(".about-oracle").text


def test_the_slider_walks_the_steps_by_keyboard(site: Site) -> None:
    site.open(f"runs/{site.name('full')}.html")
    slider, said = site.find("input.walk"), site.find(".walked")

    def shown() -> list[str]:
        return [step.text for step in site.all(".strip .step") if step.is_displayed() and "step" in step.text]

    assert said.text == "3 of 3" and len(shown()) == 3 and all(text.startswith("step 3 of 3") for text in shown())
    slider.send_keys(Keys.ARROW_LEFT)
    assert said.text == "2 of 3" and all(text.startswith("step 2 of 3") for text in shown())
    slider.send_keys(Keys.HOME)
    assert said.text == "1 of 3" and all(text.startswith("step 1 of 3") for text in shown())
    assert slider.get_attribute("aria-valuetext") == "step 1 of 3"
    errors = [step for step in site.all(".strip .step") if step.is_displayed() and step.text == "errors"]
    assert len(errors) == 3 and "step 1" in errors[0].find_element(By.TAG_NAME, "img").get_attribute("alt")


def test_the_overlay_lays_labels_over_the_image(site: Site) -> None:
    site.open(f"runs/{site.name('full')}.html")
    opacity = "return [...document.querySelectorAll('img.labels')].map((img) => getComputedStyle(img).opacity)"
    assert set(site.browser.execute_script(opacity)) == {"1"}
    site.find("input.overlay").send_keys(Keys.SPACE)
    assert set(site.browser.execute_script(opacity)) == {"0.5"}
    image = "return getComputedStyle(document.querySelector('img.labels').parentElement).backgroundImage"
    assert site.browser.execute_script(image).startswith('url("data:image/')


def score(found: Terms, cases: np.ndarray, scored: list[int]) -> float:
    """The primary metric over `cases`; here every class is in some of them."""
    return float((found.part[cases].sum(0) / found.whole[cases].sum(0))[scored].mean())


@pytest.mark.parametrize("metric", ["mean_dice", "mean_iou", "changed_iou"])
def test_the_comparison_is_the_reference_bootstrap(site: Site, tmp_path: Path, write_run: Write, metric: str) -> None:
    card = site.runs["full"].record().card | {"metric": metric}
    folders = [
        write_run(tmp_path / str(n), method=f"m{n}", skill=skill, light=True, card=card)
        for n, skill in enumerate((4.0, 2.8))
    ]
    first, second = (load_run(folder) for folder in folders)
    write_report(folders, tmp_path / "site")
    own = Site(tmp_path / "site", {"first": folders[0], "second": folders[1]}, site.browser)
    own.open("compare.html")
    for name in ("first", "second"):
        Select(own.find(f"select[name={name}]")).select_by_value(own.name(name))
    WebDriverWait(own.browser, 10).until(lambda _: own.all("#answer .gist"))
    gist = own.find(".gist")
    own_terms, other_terms = (terms(run.scores["test"].counts, run.card, "volume") for run in (first, second))
    cases = np.arange(len(own_terms.part))

    def difference(of_first: np.ndarray, of_second: np.ndarray) -> float:
        return score(other_terms, of_second, first.card.scored) - score(own_terms, of_first, first.card.scored)

    wanted = bootstrap(
        (cases, cases), difference, paired=True, vectorized=False, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    shown, low, high = (float(gist.get_attribute(f"data-{key}")) for key in ("difference", "low", "high"))
    assert shown == pytest.approx(difference(cases, cases), abs=1e-12)
    width = wanted.high - wanted.low
    assert [low, high] == pytest.approx([wanted.low, wanted.high], abs=0.1 * width), "other draws, the same interval"
    assert low < shown < high
    if metric == "mean_dice":
        recorded = [run.metrics("test")["per_class"] for run in (first, second)]
        rows = {row.find_element(By.TAG_NAME, "th").text: row for row in own.all("#answer tbody tr")}
        for name in first.card.names:
            values = [float(cell.get_attribute("data-value")) for cell in rows[name].find_elements(By.TAG_NAME, "td")]
            before, after = (numbers[name]["dice"] for numbers in recorded)
            assert values == pytest.approx([before, after, after - before])


def test_runs_on_other_items_are_not_compared(site: Site) -> None:
    site.open(f"compare.html#a={site.name('full')}&b={site.name('others')}")
    WebDriverWait(site.browser, 10).until(lambda _: site.all("#answer .banner"))
    differences = "dataset: acdc against other; labelled split: ab12cd34 against 00000000"
    told = f"the runs differ in more than the method ({differences})"
    assert told in site.find("#answer").text and not site.all("#answer .gist")
    Select(site.find("select[name=second]")).select_by_value(site.name("second"))
    WebDriverWait(site.browser, 10).until(lambda _: "items" in site.find("#answer").text)
    assert "different test items" in site.find("#answer").text


def test_every_page_can_be_reached_from_the_first_by_links(site: Site) -> None:
    """From the overview to a board, to a run, to its settings and command."""
    site.open("index.html")
    site.find(f"a[href$='{site.name('full')}.html']").click()
    site.find("a[href='#provenance']").click()
    assert site.find("#provenance").is_displayed() and "diffmatch bench acdc" in site.find(".provenance").text
    site.find("nav a[href$='acdc.html']").click()
    assert "leaderboard" in site.find("h1").text
