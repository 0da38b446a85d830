"""Take the picture of the web page in the README: a recording in rain, plain and adapted, by the bundled model.

python tests/web/take_screenshot.py docs/images/web_page.png
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WIDTH = 1100
NUM_COLORS = 128
PATIENCE_MILLISECONDS = 120_000
EXAMPLE = "AT THESE BLASPHEMOUS SOUNDS"


def main() -> None:
    """Start the page at a free port, visit it, and write the picture."""
    command = [sys.executable, "-m", "lact_asr_model.cli", "demo", "--web", "--port", "0", "--num_threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(re.findall(r"http://\S+", line)[0] for line in server.stdout if "http://" in line)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": WIDTH, "height": 900})
                page.set_default_timeout(PATIENCE_MILLISECONDS)
                page.goto(address)
                picture = picture_of(page)
        finally:
            server.terminate()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(NUM_COLORS).save(Path(sys.argv[1]), optimize=True)


def picture_of(page: Page) -> bytes:
    """PNG of the page with an example in rain."""
    page.get_by_label("Or an example").click()
    page.get_by_role("option", name=EXAMPLE).click()
    page.get_by_label("Noise or other damage").click()
    page.get_by_role("option", name="rain").click()
    page.locator("#picture img").wait_for()
    page.get_by_role("button", name="Recognise").click()
    page.locator("#curve img").wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(2000)
    return page.screenshot(full_page=True)


if __name__ == "__main__":
    main()
