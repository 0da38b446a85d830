"""The page in a real browser, from the command on."""

import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from lact_asr_model.checkpoint_io import save_pretrained_folder
from lact_asr_model.commands.demo import RECORDINGS_DIR
from lact_asr_model.configuration_hybrid_asr import HybridASRConfig
from lact_asr_model.modeling_hybrid_asr import HybridASRForCTC

if importlib.util.find_spec("gradio") is None:
    pytest.skip("the web extra is not installed", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make test-all does it")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.web,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; run: apt install chromium"),
]

REPOSITORY = Path(__file__).parents[2]
RECORDING = RECORDINGS_DIR / "1673-143397-0008.mp3"
PATIENCE_MILLISECONDS = 120_000
# The command in a process that tells of every connection to another machine.
WATCHED_COMMAND = """
import signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit that it is ignored

def watch(event, arguments):
    address = arguments[1] if event == "socket.connect" else arguments[:1] if event == "socket.getaddrinfo" else None
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        print("outside:", event, address, file=sys.stderr, flush=True)

sys.addaudithook(watch)
from lact_asr_model.cli import run_program
run_program("demo", sys.argv[1:])
"""


class Server:
    """`lact-asr demo --web` at a free port, and what it prints."""

    def __init__(self, checkpoint: Path) -> None:
        command = [sys.executable, "-c", WATCHED_COMMAND, "--web", "--port", "0", "--checkpoint", str(checkpoint)]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.address = found.group()
                break
        else:
            raise AssertionError("".join(self.lines))
        self.reader = threading.Thread(target=lambda stream: self.lines.extend(stream), args=(self.process.stdout,))
        self.reader.start()

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(2)
        code = self.process.wait(60)
        self.reader.join()
        return code


@pytest.fixture(scope="module")
def server(processor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("web") / "tiny"
    config = HybridASRConfig.from_file(REPOSITORY / "configs" / "tiny_asr_config.json")
    config.ttt_loss_type, config.ttt_parameters = "entropy_mcc", "front_end"
    save_pretrained_folder(folder, HybridASRForCTC(config).eval(), processor)
    server = Server(folder)
    yield server
    assert server.stop() == 130
    assert server.lines[-1] == "interrupted\n"
    assert not [line for line in server.lines if "outside:" in line or "Traceback" in line]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    """The page, of which every request goes to the server."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MILLISECONDS)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(server.address)
    yield page
    page.close()
    outside = [url for url in requests if urlparse(url).scheme not in ("data", "blob")]
    assert requests
    assert [url for url in outside if not url.startswith(server.address)] == []


def upload(page: Any, path: Path) -> None:
    page.locator("#recording input[type=file]").set_input_files(path)


def wait_for_another(page: Any, picture: str, before: str | None) -> str:
    """The source of a picture as soon as there is one, and not the one of before."""
    page.wait_for_function(
        "([picture, before]) => ![undefined, before].includes(document.querySelector(picture + ' img')?.src)",
        arg=[picture, before or ""],
    )
    return page.locator(f"{picture} img").get_attribute("src")


def recognise(page: Any, curve: str | None = None) -> str:
    """Press the button; the new curve of the steps."""
    page.get_by_role("button", name="Recognise").click()
    return wait_for_another(page, "#curve", curve)


def test_a_recording_is_transcribed_plain_and_adapted_and_noise_changes_it(page: Any) -> None:
    upload(page, RECORDING)
    clean = wait_for_another(page, "#picture", None)
    clean_curve = recognise(page)
    for name in ("Plain", "Adapted"):
        assert re.fullmatch(rf"{name}\s+([A-Z'\s]+|\(nothing\))", page.locator(f"#{name.lower()}").inner_text())
    assert "4.3 s of audio" in page.locator("#plain_summary").inner_text()
    assert "on front end" in page.locator("#adapted_summary").inner_text()

    page.get_by_label("Noise or other damage").click()
    page.get_by_role("option", name="rain").click()
    loud = wait_for_another(page, "#picture", clean)
    loud_curve = recognise(page, clean_curve)
    slider = page.locator("#level input[type=range]")
    slider.fill("30")
    slider.dispatch_event("pointerup")
    assert wait_for_another(page, "#picture", loud) != clean
    assert recognise(page, loud_curve) != clean_curve


def test_a_broken_file_is_one_clear_line(page: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio" * 100)
    upload(page, broken)
    message = page.locator("#message [role=alert]")
    message.wait_for()
    assert message.inner_text().startswith("broken.wav: not a readable audio file; ")
    assert "\n" not in message.inner_text()


def test_the_microphone_is_a_recording_too(page: Any) -> None:
    page.locator("#recording").get_by_label("Record audio").click()
    page.locator("#recording").get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.locator("#recording").get_by_role("button", name="Stop", exact=True).first.click()
    page.locator("#picture img").wait_for()


def test_several_recordings_give_files_to_download(page: Any, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Several recordings").click()
    page.locator("#files input[type=file]").set_input_files([RECORDING, RECORDING.with_name("1673-143397-0007.mp3")])
    page.get_by_role("button", name="Transcribe").click()
    link = page.locator("#downloads a[download='transcripts.jsonl']")
    link.wait_for()
    assert page.locator("#rows", has_text="1673-143397-0007").is_visible()
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "transcripts.jsonl")
    assert (tmp_path / "transcripts.jsonl").read_text().count('"hyp"') == 2
