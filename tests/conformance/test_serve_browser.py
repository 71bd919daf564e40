"""The page in a real browser: clicks, keys, what a screen reader needs, light and dark.

The browser is Debian's chromium, driven over its own protocol; nothing is downloaded. Set
LAYER_PACKER_SCREENSHOTS to a directory to have the pictures of docs/serve.md made anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from packer.cli.main import main
from tests.serving import HOSTILE, Client, make_store, run_service

pytestmark = pytest.mark.slow

APP = "app=registry"
NEW = f"{APP}&version=registry:1.3"
PAIR = f"{APP}&old=registry:1.1&new=registry:1.2"
PAGES = {
    "apps": "apps",
    "history": f"history?{APP}",
    "version": f"version?{NEW}",
    "tree": f"tree?{NEW}",
    "inside": f"tree?{NEW}&path=registry-chart.tgz!/registry",
    "file": f"file?{NEW}&path=manifests/base/service.yaml",
    "diff": f"diff?{PAIR}",
    "split": f"diff?{PAIR}&layout=split",
    "layers": f"layers?{APP}",
    "bundles": "bundles",
    "problem": "version?app=none&version=1",
}
COLOURED = ("history", "version", "file", "split", "layers", "problem")
SIZE: ViewportSize = {"width": 1100, "height": 760}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("shown"))


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[Client]:
    with run_service(store) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no chromium is installed (tools/install-servers installs it where apt has it)")
    # Root has no sandbox; a small /dev/shm is not enough for it.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=arguments)
        yield found
        found.close()


def context_of(browser: Browser, scheme: str, complaints: list[str]) -> BrowserContext:
    """Return a window of the size of the pictures; what the browser complains of is gathered."""
    made = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport=SIZE,
    )
    made.on("console", lambda message: complaints.append(message.text))
    made.on("weberror", lambda error: complaints.append(str(error.error)))
    return made


@pytest.fixture
def page(browser: Browser, client: Client) -> Iterator[Page]:
    complaints: list[str] = []
    with context_of(browser, "light", complaints) as context:
        made = context.new_page()
        asked: list[str] = []
        made.on("request", lambda request: asked.append(request.url))
        yield made
        assert not complaints, "nothing is against the policy"
        assert all(url.startswith(client.url) for url in asked), "no other host is asked"


def test_clicking_through(page: Page, client: Client) -> None:
    page.goto(client.url)
    page.get_by_role("link", name="registry", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("registry")
    page.get_by_role("link", name="registry:1.3").click()
    expect(page.get_by_role("heading", name="Where its bytes went")).to_be_visible()
    # A part of the treemap is a link to what lies below it.
    page.locator("svg.treemap a[aria-label^='manifests']").first.click()
    expect(page.locator("svg.treemap a[aria-label^='base']").first).to_be_visible()
    page.get_by_role("link", name="Files", exact=True).click()
    page.get_by_role("link", name="Look into registry-chart.tgz").click()
    page.get_by_role("link", name="registry/").click()
    page.get_by_role("link", name="Chart.yaml", exact=True).click()
    expect(page.get_by_text("version: 0.3.0")).to_be_visible()


def test_comparing(page: Page, client: Client) -> None:
    page.goto(client.url + f"history?{APP}")
    page.get_by_label("registry:1.1 is the old one").check()
    page.get_by_label("registry:1.2 is the new one").check()
    page.get_by_role("button", name="Compare old and new").click()
    removed = page.locator("tr.gone").filter(has_text="version: 0.1.0")
    expect(removed).to_be_visible()
    page.get_by_label("Side by side").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    row = page.locator("tr").filter(has_text="version: 0.1.0")
    expect(row.locator("td.add.code")).to_have_text("version: 0.2.0")


def test_keys_alone(page: Page, client: Client) -> None:
    page.goto(client.url + f"tree?{NEW}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="manifests/").focus()
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.textContent")
    assert focused == HOSTILE
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="base/")).to_be_visible()


def test_names_do_not_run(page: Page, client: Client) -> None:
    opened: list[str] = []
    page.on("dialog", lambda dialog: opened.append(dialog.message))
    page.goto(client.url + f"tree?{NEW}")
    page.get_by_role("link", name=HOSTILE, exact=True).click()
    expect(page.get_by_text("<h1>shown as text</h1>")).to_be_visible()
    assert not opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_readers_and_contrast(browser: Browser, client: Client, scheme: str) -> None:
    complaints: list[str] = []
    folder = os.environ.get("LAYER_PACKER_SCREENSHOTS")
    # All but the colours is the same in both, and these pages have all of the colours.
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else None
    shown = PAGES if scheme == "light" or folder is not None else COLOURED
    with context_of(browser, scheme, complaints) as context:
        page = context.new_page()
        backgrounds = set()
        for name in shown:
            page.goto(client.url + PAGES[name])
            # axe's script is put in by the driver, which the page's policy does not concern.
            found = Axe().run(page, options=rules)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            if folder is not None:
                page.screenshot(path=Path(folder) / f"serve-{name}-{scheme}.png")
            if scheme == "light":
                page.set_viewport_size({"width": 380, "height": 700})
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= 380, f"{name} scrolls sideways in a narrow window"
                page.set_viewport_size(SIZE)
    assert backgrounds == {"rgb(16, 21, 28)" if scheme == "dark" else "rgb(246, 247, 249)"}


def test_pages_work_without_scripts(browser: Browser, client: Client) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(client.url + f"history?{APP}")
        page.get_by_role("button", name="Compare old and new").click()
        expect(page.get_by_role("heading", name="What changed")).to_be_visible()


def test_a_report_is_a_page_of_its_own(browser: Browser, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    words = ["report", "registry", "-o", str(path), "--store", str(store), "-q"]
    assert main(words) == 0
    for scheme in ("light", "dark"):
        complaints: list[str] = []
        with context_of(browser, scheme, complaints) as context:
            page = context.new_page()
            page.goto(path.as_uri())
            expect(
                page.get_by_role("heading", name="Layers shared between versions")
            ).to_be_visible()
            ground = page.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius")
            assert ground == "10px", "its policy allows its style"
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
        # axe's own script stands within the page, which the page's policy forbids.
        assert all("script" in complaint for complaint in complaints), complaints
