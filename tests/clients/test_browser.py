"""Browsers: the page at / and a plain <img>. Screenshots are kept in target/clients."""

from __future__ import annotations

import base64
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from daemon import ARTIFACTS, HEIGHT, RATE_FLOOR, WIDTH, until
from test_wire import Connection, get

JSON = {"Content-Type": "application/json"}

# A fingerprint of what the visitor sees; null until there is a picture.
SAMPLE = """
const live = document.getElementById('live');
const from = live && !live.hidden ? live : document.querySelector('#plain, img');
if (from.tagName === 'IMG' ? !from.naturalWidth : from.width < 64) return null;
const small = document.createElement('canvas');
small.width = 160; small.height = 120;
const pen = small.getContext('2d');
pen.drawImage(from, 0, 0, 160, 120);
return Array.from(pen.getImageData(0, 0, 160, 120).data.filter((_, i) => i % 4 === 1));
"""


def sample(driver) -> bytes | None:
    pixels = driver.execute_script(SAMPLE)
    return None if pixels is None else bytes(pixels)


def shows_something(pixels: bytes | None) -> bool:
    return pixels is not None and np.frombuffer(pixels, np.uint8).std() > 3


def assert_moves(driver, seconds=15):
    """Two samples differ, and they are no flat areas."""
    until("a picture", lambda: shows_something(sample(driver)), seconds)
    first = sample(driver)
    until("the picture moves", lambda: shows_something(now := sample(driver)) and now != first, seconds)


def state(driver) -> str:
    return driver.execute_script("return document.getElementById('state').dataset.state")


def wait_for_state(driver, wanted: str, seconds=20):
    until(f"state {wanted} (is {state(driver)})", lambda: state(driver) == wanted, seconds)


def assert_console_is_clean(driver, network_errors_expected=False):
    lines = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    if network_errors_expected:
        lines = [entry for entry in lines if entry["source"] != "network"]
    assert not lines, lines


def screenshot(driver, name: str) -> np.ndarray:
    path = ARTIFACTS / f"{name}.png"
    assert driver.save_screenshot(str(path))
    return cv2.imread(str(path))


def shown_rate(driver) -> float:
    words = driver.execute_script("return document.getElementById('rate').textContent").split(" ")
    return float(words[0]) if words[0][:1].isdigit() else 0.0


def assert_page_works(driver, daemon):
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    assert_moves(driver)
    assert driver.execute_script("const c = document.getElementById('live'); return [c.width, c.height]") == [WIDTH, HEIGHT]
    until("the page shows the full frame rate", lambda: shown_rate(driver) >= RATE_FLOOR, 15)
    facts = {id: driver.execute_script("return document.getElementById(arguments[0]).textContent", id)
             for id in ("name", "state", "size", "rate", "camera", "encoder")}
    assert facts["size"] == f"{WIDTH} × {HEIGHT}" and facts["state"] == "Streaming"
    until("the page counts itself", lambda: driver.execute_script("return +document.getElementById('viewers').textContent") >= 1)
    assert facts["camera"] != "–" and facts["encoder"] != "–"
    assert driver.execute_script("return document.getElementById('over').hidden && document.getElementById('fault').hidden")
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    assert_console_is_clean(driver)
    return facts


def test_page_light(daemon, browser, figure):
    driver = browser(dark=False)
    facts = assert_page_works(driver, daemon)
    figure("Chromium, the page", f"{facts['rate']}, {facts['size']}, {facts['camera']} / {facts['encoder']}")
    heights = driver.execute_script("return [...document.querySelectorAll('summary')].map(s => s.getBoundingClientRect().height)")
    assert len(heights) >= 5 and max(heights) < 50, f"a panel's name takes two lines: {heights}"
    assert driver.execute_script("return document.documentElement.scrollHeight <= innerHeight"), "the page has to be scrolled"
    assert screenshot(driver, "page-light")[-3:, :, :].mean() > 200
    addresses = driver.execute_script("return [document.getElementById('stream-url').value, document.getElementById('snapshot-url').value]")
    assert addresses == [daemon.url + "/stream", daemon.url + "/snapshot.jpg"]


def test_page_dark(daemon, browser):
    driver = browser(dark=True)
    assert_page_works(driver, daemon)
    assert screenshot(driver, "page-dark")[-3:, :, :].mean() < 60


def test_page_on_a_phone(daemon, browser):
    driver = browser(360, 740, phone=True)
    assert_page_works(driver, daemon)
    sizes = driver.execute_script("""return [...document.querySelectorAll('button, .button, summary')].filter(e => e.offsetParent)
        .map(e => [e.textContent, e.getBoundingClientRect().height, e.getBoundingClientRect().right])""")
    assert len(sizes) >= 4
    assert not [s for s in sizes if s[1] < 43.5 or s[2] > 360], f"too small to touch, or outside: {sizes}"
    screenshot(driver, "page-phone")


def test_buttons_and_keys(daemon, browser):
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    driver.find_element("id", "pause").click()
    wait_for_state(driver, "paused")
    until("a paused page takes no stream", lambda: daemon.viewers() == 0)
    still = sample(driver)
    time.sleep(0.5)
    assert sample(driver) == still
    driver.find_element("id", "pause").click()
    wait_for_state(driver, "streaming")
    assert_moves(driver)
    full = "return !!document.fullscreenElement || document.getElementById('stage').classList.contains('fill')"
    assert not driver.execute_script(full)
    driver.find_element("tag name", "body").send_keys("f")
    until("F fills the screen", lambda: driver.execute_script(full))
    driver.find_element("tag name", "body").send_keys("f")
    until("F leaves full screen", lambda: not driver.execute_script(full))
    assert_console_is_clean(driver)


def test_hidden_tab_drops_the_stream(daemon, browser):
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    assert daemon.viewers() >= 1
    page = driver.current_window_handle
    driver.switch_to.new_window("tab")
    until("a hidden tab takes no stream", lambda: daemon.viewers() == 0, 30)
    driver.close()
    driver.switch_to.window(page)
    wait_for_state(driver, "streaming")
    assert_moves(driver)
    assert_console_is_clean(driver)


def test_without_javascript(daemon, browser):
    driver = browser(javascript=False)
    driver.get(daemon.url + "/")

    def middle() -> bytes:
        return screenshot(driver, "page-noscript")[100:500, 300:900].tobytes()

    until("a picture", lambda: shows_something(middle()))
    first = middle()
    until("the picture moves", lambda: middle() != first)


def test_plain_img(own_daemon, browser, tmp_path):
    """<img> on a page of another origin, as dashboards use it; the canvas that samples it needs to be allowed to."""
    daemon = own_daemon("http.allow_origins=*")
    page = tmp_path / "img.html"
    page.write_text(f'<!doctype html><link rel="icon" href="data:,"><img crossorigin="anonymous" src="{daemon.url}/stream" alt="">')
    driver = browser()
    driver.get(page.as_uri())
    assert_moves(driver)
    assert driver.execute_script("const i = document.querySelector('img'); return [i.naturalWidth, i.naturalHeight]") == [WIDTH, HEIGHT]
    assert_console_is_clean(driver)


# What a page of another site can do with a picture: show it (its size), read it.
OTHER_SITE = """
const [url, done] = arguments, image = new Image();
const reading = fetch(url, {mode: 'cors'}).then(answer => answer.body.getReader().read()).then(() => 'read', () => 'refused');
image.onload = async () => done([image.naturalWidth, await reading]);
image.onerror = async () => done([0, await reading]);
image.src = url;
"""


@pytest.fixture
def other_site(tmp_path):
    """A page of another site, and Chromium's arguments to find it."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text('<!doctype html><link rel="icon" href="data:,"><title>Other</title>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://other.example:{server.server_port}", ["--host-resolver-rules=MAP other.example 127.0.0.1"]
    server.shutdown()


def test_other_sites_show_pictures_and_read_them_where_allowed(own_daemon, browser, other_site):
    """Without allow_origins an <img> of OctoPrint, Mainsail or a Home Assistant card works, and fetch() does not."""
    origin, arguments = other_site
    driver = browser(arguments=arguments)
    for settings, reading in (((), "refused"), ((f"http.allow_origins={origin}",), "read")):
        daemon = own_daemon(*settings)
        driver.get(origin + "/")
        for path in ("/stream", "/snapshot", "/webcam/?action=stream"):
            assert driver.execute_async_script(OTHER_SITE, daemon.url + path) == [WIDTH, reading], path
        assert driver.execute_async_script(OTHER_SITE, daemon.url + "/api/v1/status") == [0, "refused"]
    # An error is a picture too, and shown.
    daemon = own_daemon("camera.source=replay", "camera.replay.path=/nonexistent")
    assert driver.execute_async_script(OTHER_SITE, daemon.url + "/snapshot")[0] > 0


def test_other_sites_frame_the_page_where_allowed(own_daemon, browser, other_site):
    origin, arguments = other_site
    driver = browser(arguments=arguments)
    for settings, framed in (((), False), ((f"http.frame_ancestors={origin}",), True)):
        daemon = own_daemon(*settings)
        driver.get(origin + "/")
        driver.execute_async_script("""
            const frame = document.createElement('iframe');
            frame.onload = arguments[1];
            frame.src = arguments[0];
            document.body.append(frame);""", daemon.url + "/")
        if framed:
            until("the page in the frame streams", lambda: daemon.viewers() == 1)
        else:
            driver.switch_to.frame(0)
            assert not driver.find_elements("id", "live"), "the page is in a frame of another site's"
            assert daemon.viewers() == 0


def test_server_restart(own_daemon, browser, figure):
    """Killed and started again on the same port: the page shows the picture again by itself."""
    daemon = own_daemon()
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    daemon.kill(signal.SIGKILL)
    wait_for_state(driver, "reconnecting")
    time.sleep(4)
    assert "Reconnecting" in driver.execute_script("return document.getElementById('over').innerText")
    screenshot(driver, "page-reconnecting")
    daemon.start()
    began = time.monotonic()
    wait_for_state(driver, "streaming", 15)
    figure("Chromium, picture back after a restart", f"{time.monotonic() - began:.1f} s")
    assert_moves(driver)
    until("one viewer", lambda: daemon.viewers() == 1)
    assert_console_is_clean(driver, network_errors_expected=True)


def test_silent_server(own_daemon, browser):
    """A server that hangs (or a network that swallows packets) sends nothing and closes nothing."""
    daemon = own_daemon()
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        wait_for_state(driver, "reconnecting", 20)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    wait_for_state(driver, "streaming", 20)
    assert_moves(driver)
    until("one viewer: the dead connections are gone", lambda: daemon.viewers() == 1, 20)
    assert_console_is_clean(driver, network_errors_expected=True)


def test_no_camera(own_daemon, browser):
    """The page says in words why there is no picture; the stream carries the placeholder, not a broken image."""
    daemon = own_daemon("camera.source=replay", "camera.replay.path=/nonexistent")
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "degraded")
    assert until("a placeholder", lambda: sample(driver) is not None)
    fault = driver.find_element("id", "fault")
    until("the banner", fault.is_displayed)
    reason = daemon.status()["health"]["reason"]
    assert reason and reason in fault.text
    screenshot(driver, "page-no-camera")
    assert_console_is_clean(driver)


def test_too_many_viewers(own_daemon, browser):
    """The page says why it gets no stream, and takes the first free place."""
    daemon = own_daemon("http.max_viewers=1")
    driver = browser()
    with Connection(daemon.port, get("/stream")) as other:
        boundary = other.boundary()
        other.until(b"--" + boundary + b"\r\n")
        other.part(boundary)
        driver.get(daemon.url + "/")
        until("the page says why", lambda: "as many viewers" in driver.find_element("id", "over").text)
    wait_for_state(driver, "streaming", 25)
    assert_moves(driver)
    assert_console_is_clean(driver, network_errors_expected=True)


# ---- settings and controls -------------------------------------------------------------------------

# The line of a panel that has this label.
LINE = """
const line = [...document.querySelectorAll('.field')].find(f => f.querySelector('label').textContent === arguments[0]);
"""


def open_panel(driver, name: str):
    panel = next(p for p in driver.find_elements("css selector", "details") if p.find_element("tag name", "summary").text == name)
    panel.find_element("tag name", "summary").click()
    return panel


def find_in_line(driver, label: str, selector: str):
    find = LINE + "return line && line.querySelector(arguments[1])"
    return until(f"{selector} of {label}", lambda: driver.execute_script(find, label, selector))


def line_error(driver, label: str) -> str:
    return find_in_line(driver, label, ".wrong").text


def line_value(driver, label: str, selector: str = "input, select") -> str:
    return find_in_line(driver, label, selector).get_property("value")


def slide(driver, label: str, value: float):
    """As a hand does: several events on the way, faster than they are sent."""
    slider = find_in_line(driver, label, "[type=range]")
    driver.execute_script("""for (const part of [0.25, 0.5, 0.75, 1]) {
        arguments[0].value = arguments[1] * part; arguments[0].dispatchEvent(new Event('input', {bubbles: true})); }""", slider, value)


def type_in(driver, label: str, value: str, selector: str = "[type=number]"):
    field = find_in_line(driver, label, selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
    field.click()
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(value, Keys.ENTER)


def choose(driver, label: str, value: str):
    driver.execute_script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))",
                          find_in_line(driver, label, "select"), value)


def api(daemon, what: str) -> dict:
    with urllib.request.urlopen(f"{daemon.url}/api/v1/{what}", timeout=10) as answer:
        return json.load(answer)


def control(daemon, name: str):
    return next(c["value"] for c in api(daemon, "controls")["controls"] if c["name"] == name)


def brightness(driver) -> float:
    return float(np.frombuffer(sample(driver), np.uint8).mean())


def test_controls(own_daemon, browser):
    """What is set on the page reaches the camera and the picture, and the page shows what is in force, not what was wished."""
    daemon = own_daemon()
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    assert not driver.find_elements("css selector", "#controls-fields .field"), "the camera was asked before anybody wanted to know"
    place = "const r = document.getElementById('stage').getBoundingClientRect(); return [r.left, r.top + scrollY, r.width, r.height]"
    before = driver.execute_script(place)
    open_panel(driver, "Controls")
    dark = brightness(driver)
    slide(driver, "Brightness", 0.5)
    until("the picture is brighter", lambda: brightness(driver) > dark + 20)
    until("the number follows", lambda: line_value(driver, "Brightness", "[type=number]") == "0.5")
    assert control(daemon, "Brightness") == 0.5
    assert driver.execute_script(place) == before, "the picture moved"

    type_in(driver, "Brightness", "7")
    until("the error at the control", lambda: "between -1 and 1" in line_error(driver, "Brightness"))
    until("the value in force", lambda: line_value(driver, "Brightness", "[type=number]") == "0.5")
    slide(driver, "Brightness", 0.4)
    until("no error any more", lambda: control(daemon, "Brightness") == 0.4 and line_error(driver, "Brightness") == "")

    # One of two is wrong: the other is set all the same.
    driver.execute_script("""for (const [field, value] of [[arguments[0], 99], [arguments[1], 3000]]) {
        field.value = value; field.dispatchEvent(new Event('change')); }""",
        find_in_line(driver, "AnalogueGain", "[type=number]"), find_in_line(driver, "ExposureTime", "[type=number]"))
    until("the error at its own control", lambda: "between 1 and 16" in line_error(driver, "AnalogueGain"))
    until("the other is set", lambda: control(daemon, "ExposureTime") == 3000)
    assert line_error(driver, "ExposureTime") == "" and line_value(driver, "AnalogueGain", "[type=number]") == "1"

    type_in(driver, "ColourGains", "[1.5, 2", "[type=text]")
    assert "list" in line_error(driver, "ColourGains")
    type_in(driver, "ColourGains", "[1.5, 2]", "[type=text]")
    find_in_line(driver, "AeEnable", "[type=checkbox]").click()
    choose(driver, "AwbMode", "4")
    slide(driver, "ScalerCrop", 2)
    until("every type is set", lambda: [control(daemon, name) for name in ("ColourGains", "AeEnable", "AwbMode", "ScalerCrop")]
          == [[1.5, 2], False, 4, [160, 120, 320, 240]])
    assert line_value(driver, "SensorTemperature", "output") == "21.5"
    until("what to keep", lambda: '"AwbMode": 4' in driver.find_element("id", "controls-yaml").get_property("value"))
    kept = driver.find_element("id", "controls-yaml").get_property("value")
    assert kept.startswith("camera:\n  controls:\n") and '    "Brightness": 0.4\n' in kept and "AnalogueGain" not in kept
    screenshot(driver, "page-controls")

    find_in_line(driver, "Brightness", ".reset").click()
    until("one is reset", lambda: control(daemon, "Brightness") == 0)
    until("and shown", lambda: line_value(driver, "Brightness", "[type=number]") == "0")
    assert not find_in_line(driver, "Brightness", ".reset").is_enabled() and control(daemon, "AwbMode") == 4
    driver.find_element("id", "reset-all").click()
    until("all are reset", lambda: line_value(driver, "ScalerCrop", "[aria-label], .parts label:last-child input") == "480")
    assert control(daemon, "AwbMode") == 0 and line_value(driver, "AwbMode") == "0"
    assert not driver.find_element("id", "controls-yaml").is_displayed()
    assert_console_is_clean(driver, network_errors_expected=True)


def test_settings(own_daemon, browser):
    daemon = own_daemon()
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    canvas = "const c = document.getElementById('live'); return [c.width, c.height]"
    panel = open_panel(driver, "Settings")
    open_panel(driver, "Controls")
    until("the settings in force", lambda: line_value(driver, "Resolution") == "640x480")
    assert "restart" in panel.text
    choose(driver, "Resolution", "320x240")
    until("a smaller picture", lambda: driver.execute_script(canvas) == [320, 240])
    until("the controls are those of the new size", lambda: line_value(driver, "ScalerCrop", ".parts label:last-child input") == "240")
    keep = driver.find_element("id", "settings-yaml")
    until("what to keep", lambda: "resolution: 320x240" in keep.get_property("value") and keep.is_displayed())

    choose(driver, "Resolution", "other")
    type_in(driver, "Resolution", "400x304", "[type=text]")
    until("a size of one's own", lambda: driver.execute_script(canvas) == [400, 304] and line_value(driver, "Resolution", "select") == "400x304")
    choose(driver, "Resolution", "other")
    type_in(driver, "Resolution", "big", "[type=text]")
    until("the error", lambda: "1280x720" in line_error(driver, "Resolution"))
    assert line_value(driver, "Resolution", "select") == "400x304"
    type_in(driver, "Frame rate", "500")
    until("the error", lambda: "between 0.05 and 120" in line_error(driver, "Frame rate"))
    until("the rate in force", lambda: line_value(driver, "Frame rate", "[type=number]") == "30")
    slide(driver, "Quality", 20)
    choose(driver, "Orientation", "rotate-90")
    until("a turned picture", lambda: driver.execute_script(canvas) == [304, 400])
    until("all in force", lambda: api(daemon, "settings") | {"lasts": ""}
          == {"resolution": "400x304", "frame_rate": 30, "quality": 20, "orientation": "rotate-90", "lasts": ""})
    until("all kept", lambda: "orientation: rotate-90\nencoder:\n  quality: 20" in keep.get_property("value"))
    until("the size as it is seen", lambda: driver.find_element("id", "size").text == "304 × 400")

    # Changed by somebody else: the page follows.
    change = urllib.request.Request(daemon.url + "/api/v1/settings", b'{"quality": 61}', JSON, method="PATCH")
    urllib.request.urlopen(change, timeout=10).close()
    until("the page follows", lambda: line_value(driver, "Quality", "[type=number]") == "61")
    assert_console_is_clean(driver, network_errors_expected=True)


def test_a_change_that_is_not_answered(own_daemon, browser):
    """The page does not go on showing what was wished."""
    daemon = own_daemon()
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    open_panel(driver, "Settings")
    daemon.kill(signal.SIGKILL)
    type_in(driver, "Frame rate", "12")
    until("the error", lambda: "No answer" in line_error(driver, "Frame rate"))
    daemon.start()
    until("the rate in force", lambda: line_value(driver, "Frame rate", "[type=number]") == "30")
    assert_console_is_clean(driver, network_errors_expected=True)


@pytest.mark.parametrize("look, width, height", [("light", 1280, 860), ("dark", 1280, 860), ("phone", 360, 740)])
def test_open_panels(own_daemon, browser, look, width, height):
    """Encoder and reason can be read without a pointer; open panels fit, and the picture stays in sight."""
    daemon = own_daemon()
    driver = browser(width, height, dark=look == "dark", phone=look == "phone")
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    for name in ("Settings", "Controls", "Camera and encoder"):
        open_panel(driver, name)
    encoder = daemon.status()["encoder"]
    words = driver.find_element("id", "about").text
    assert encoder["kind"] in words and encoder["reason"] in words, words
    type_in(driver, "Brightness", "7")
    until("an error", lambda: line_error(driver, "Brightness"))
    slide(driver, "Quality", 70)
    until("what to keep", driver.find_element("id", "controls-yaml").is_displayed)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    unnamed = driver.execute_script("""return [...document.querySelectorAll('.field input, .field select')].filter(e =>
        !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')).length""")
    assert unnamed == 0
    driver.execute_script("document.querySelector('#controls-fields').scrollIntoView({block: 'center'})")
    until("the picture is in sight", lambda: driver.execute_script("""const r = document.getElementById('live').getBoundingClientRect();
        return r.bottom > 100 && r.top < innerHeight - 100 && r.left >= 0 && r.right <= innerWidth"""))
    screenshot(driver, f"page-panels-{look}")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 2200, "deviceScaleFactor": 1, "mobile": look == "phone"})
    driver.execute_script("scrollTo(0, 0)")
    time.sleep(0.3)
    screenshot(driver, f"page-panels-{look}-long")
    assert_console_is_clean(driver, network_errors_expected=True)


def test_panels_without_a_camera(own_daemon, browser, tmp_path):
    """They say that there is none, keep what is set, and fill themselves when it comes."""
    daemon = own_daemon("camera.faults=[{kind: disappear, at: 90, for: 12s}]")
    driver = browser()
    driver.get(daemon.url + "/")
    settings, controls, about = (open_panel(driver, name) for name in ("Settings", "Controls", "Camera and encoder"))
    wait_for_state(driver, "degraded")
    for panel in (settings, controls):
        until("the panel says so", lambda: "There is no camera" in panel.text)
    until("and so does this one", lambda: "none" in about.text)
    driver.execute_script("arguments[0].scrollIntoView()", settings)
    screenshot(driver, "page-panels-no-camera")
    choose(driver, "Resolution", "320x240")
    until("what to keep", driver.find_element("id", "settings-yaml").is_displayed)
    wait_for_state(driver, "streaming", 40)
    until("the controls come with the camera", lambda: line_value(driver, "Brightness", "[type=number]") == "0")
    until("the note is gone", lambda: "There is no camera" not in settings.text + controls.text)
    until("what was set meanwhile is in force", lambda: driver.find_element("id", "size").text == "320 × 240")
    assert_console_is_clean(driver, network_errors_expected=True)


def test_camera_and_encoder(own_daemon, browser):
    """What does not fit the camera is a note; a limit and a stopped camera are told in words."""
    daemon = own_daemon("camera.controls={Brightness: 7}", "camera.resolution=1920x1080", "encoder.software_load=5",
                        "camera.idle=stop", "camera.idle_after=0s")
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    until("the note", driver.find_element("id", "notes").is_displayed)
    assert "Brightness must be between" in driver.find_element("id", "notes").text
    open_panel(driver, "Camera and encoder")
    about = driver.find_element("id", "about")
    until("the limit", lambda: "at most" in about.text)
    assert "YUV420 1920 × 1080" in about.text
    screenshot(driver, "page-camera-and-encoder")
    driver.find_element("id", "pause").click()
    until("the stopped camera", lambda: "stopped while nobody watches" in about.text)
    assert_console_is_clean(driver)


def test_configuration_problems(own_daemon, browser, tmp_path):
    """A bad value in the file a person edits: the daemon runs, the page says what is wrong and where."""
    settings = tmp_path / "pinhole.yaml"
    settings.write_text("http:\n  max_viewers: 0\nencoder:\n  quality: 900\n")
    daemon = own_daemon(user_config=str(settings))
    driver = browser()
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    box = driver.find_element("id", "problems")
    until("the banner", box.is_displayed)
    problems = daemon.status()["config"]["problems"]
    assert problems and all(problem in box.text for problem in problems)
    assert "pinhole.yaml" in box.text and "encoder.quality" in box.text
    screenshot(driver, "page-problems")
    assert_console_is_clean(driver)


@pytest.mark.parametrize("look, width, height", [("light", 1280, 860), ("dark", 1280, 860), ("phone", 360, 740)])
def test_diagnostics(own_daemon, browser, tmp_path, monkeypatch, look, width, height):
    """Temperature, power, restarts and the last messages can be read without a login; nothing is asked before."""
    for name, text in {"temp": "48312\n", "throttled": "80004\n", "model": "Raspberry Pi Zero W Rev 1.1\0",
                       "unique-name": "pinhole-1a2b\n", "boot": "boots=12\nwhy=power on\n", "watchdog": "2 5\n",
                       "scaling_cur_freq": "700000\n", "cpuinfo_max_freq": "1000000\n", "scaling_governor": "powersave\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "i2c" / "10-001a" / "of_node").mkdir(parents=True)
    (tmp_path / "i2c" / "10-001a" / "of_node" / "compatible").write_text("sony,imx500\0")
    for variable, name in {"TEMPERATURE": "temp", "THROTTLED": "throttled", "MODEL": "model", "RUN": "", "CPUFREQ": "", "I2C": "i2c"}.items():
        monkeypatch.setenv("PINHOLE_" + variable, str(tmp_path / name))
    journalctl = tmp_path / "journalctl"
    journalctl.write_text("#!/bin/sh\necho '[    4.250000] wpa_supplicant[3]: wlan0: CTRL-EVENT-SSID-TEMP-DISABLED " + "reason=WRONG_KEY " * 8 + "'\n")
    journalctl.chmod(0o755)
    monkeypatch.setenv("PINHOLE_JOURNALCTL", str(journalctl))
    # Warnings for the log, a long one among them.
    daemon = own_daemon("camera.faults=[{kind: disappear, at: 40, for: 1s}]", "camera.controls={NoSuchControl: 1}")
    driver = browser(width, height, dark=look == "dark", phone=look == "phone")
    driver.get(daemon.url + "/")
    until("the camera is back", lambda: any("disconnected" in line for line in daemon.log) and "streaming" in daemon.log[-1], 30)

    def resize(size: str):
        body = json.dumps({"resolution": size}).encode()
        urllib.request.urlopen(urllib.request.Request(daemon.url + "/api/v1/settings", body, JSON, method="PATCH"), timeout=10).close()

    for size in ("320x240", "640x480") * 3:      # each leaves lines: more than the box is high
        resize(size)
    assert not driver.find_elements("css selector", "#log li"), "the machine was asked before anybody wanted to know"
    panel = open_panel(driver, "Diagnostics")
    until("the facts", lambda: "48.3 °C" in panel.text)
    words = panel.text
    for fact in ("Raspberry Pi Zero W Rev 1.1", "pinhole-1a2b.local", "now throttled; before temperature limit (low voltage is not measured on this board)", "Clock", "700 of 1000 MHz (powersave)", "imx500 (not supported)",
                 "MB free; the program has", "a call to the camera did not return", "watchdog: 2", "12; the last: power on"):
        assert fact in words, f"{fact} is not in {words}"
    lines = driver.execute_script("return [...document.querySelectorAll('#log li')].map(li => li.textContent)")
    assert any("listening on" in line for line in lines), lines
    assert any("warning: " in line for line in lines), lines
    machine = driver.find_element("id", "machine-log")
    assert "reason=WRONG_KEY" in machine.text and machine.accessible_name == "The machine’s last messages:"
    log = driver.find_element("id", "log")
    assert driver.execute_script("const l = arguments[0]; return l.scrollHeight - l.scrollTop - l.clientHeight < 8", log), "not at its end"
    assert log.accessible_name == "The program’s last messages:" and log.aria_role == "region"
    assert driver.execute_script("arguments[0].focus(); return document.activeElement === arguments[0]", log), "out of the keyboard's reach"
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    assert driver.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", log), "the log is wider than its box"
    driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", panel)
    screenshot(driver, f"page-diagnostics-{look}")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", log)
    screenshot(driver, f"page-diagnostics-{look}-log")
    # It is kept up to date, and a visitor who reads further up is left there.
    driver.execute_script("arguments[0].scrollTop = 0", log)
    resize("320x240")
    (tmp_path / "temp").write_text("51000\n")
    until("the new temperature", lambda: "51.0 °C" in panel.text)
    until("the new lines", lambda: driver.execute_script("return document.querySelectorAll('#log li').length") > len(lines))
    assert driver.execute_script("return arguments[0].scrollTop", log) == 0
    saved = panel.find_element("css selector", "a")
    assert saved.get_attribute("href") == daemon.url + "/api/v1/diagnostics" and saved.get_attribute("download")
    assert_console_is_clean(driver)


# ---- other engines, where they are installed (PINHOLE_CLIENTS=all tests/clients/run) -----------


def assert_other_browser_works(driver, daemon, figure, name: str):
    driver.get(daemon.url + "/")
    wait_for_state(driver, "streaming")
    assert_moves(driver)
    until("the page shows a frame rate", lambda: shown_rate(driver) >= 10, 15)
    screenshot(driver, f"page-{name.lower()}")
    way = "canvas" if not driver.execute_script("return document.getElementById('live').hidden") else "<img>"
    figure(f"{name}, the page", f"{shown_rate(driver):.0f} fps through {way}")
    assert_moves(driver)
    driver.execute_script("document.getElementById('controls').open = true")
    until("the controls", lambda: driver.execute_script(LINE + "return !!line", "Brightness"))
    dark = brightness(driver)
    driver.execute_script(LINE + """const slider = line.querySelector('[type=range]');
        slider.value = 0.5; slider.dispatchEvent(new Event('input')); slider.scrollIntoView();""", "Brightness")
    until("the picture is brighter", lambda: brightness(driver) > dark + 20)
    screenshot(driver, f"page-{name.lower()}-controls")
    driver.execute_script("document.getElementById('reset-all').click()")
    until("all are reset", lambda: control(daemon, "Brightness") == 0)
    return way


def test_webkit(daemon, figure, monkeypatch):
    """WebKit (Safari's engine) gives multipart bodies to no script: the page asks for ?raw=1, else it shows an <img>."""
    from selenium import webdriver
    from selenium.webdriver.webkitgtk.options import Options
    from selenium.webdriver.webkitgtk.service import Service

    program, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    browsers = glob.glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
    if not (program and screen and browsers):
        pytest.skip("webkit2gtk-driver and xvfb are not installed (optional; PINHOLE_CLIENTS=all installs them)")
    reading, writing = os.pipe()
    server = subprocess.Popen([screen, "-displayfd", str(writing), "-nolisten", "tcp", "-screen", "0", "1280x860x24"],
                              pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    driver = None
    try:
        with os.fdopen(reading) as pipe:
            monkeypatch.setenv("DISPLAY", ":" + pipe.readline().strip())
        monkeypatch.setenv("WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS", "1")  # root; only our own page is opened
        monkeypatch.setenv("WEBKIT_DISABLE_COMPOSITING_MODE", "1")
        options = Options()
        options.binary_location = browsers[-1]
        options.add_argument("--automation")
        driver = webdriver.WebKitGTK(options=options, service=Service(program))
        assert_other_browser_works(driver, daemon, figure, "WebKit")
    finally:
        if driver:
            driver.quit()
        server.terminate()
        server.wait(10)


class Marionette:
    """The few commands these tests need, over Firefox's own protocol: Debian has no geckodriver."""

    def __init__(self, port: int):
        self.socket = until("Firefox answers", lambda: self.attempt(port), 40)
        self.socket.settimeout(30)
        self.stream = self.socket.makefile("rb")
        self.number = 0
        self.receive()
        self.command("WebDriver:NewSession", capabilities={})

    @staticmethod
    def attempt(port: int):
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except OSError:
            return None

    def receive(self):
        length = b""
        while not length.endswith(b":"):
            byte = self.stream.read(1)
            assert byte, "Firefox closed the connection"
            length += byte
        return json.loads(self.stream.read(int(length[:-1])))

    def command(self, name: str, **parameters):
        self.number += 1
        message = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self.receive()
        assert not error, error
        return result.get("value") if isinstance(result, dict) else result

    def get(self, url: str):
        self.command("WebDriver:Navigate", url=url)

    def execute_script(self, script: str, *arguments):
        return self.command("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def save_screenshot(self, path: str) -> bool:
        return Path(path).write_bytes(base64.b64decode(self.command("WebDriver:TakeScreenshot", full=False))) > 0


def test_firefox(daemon, figure, tmp_path):
    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    if not firefox:
        pytest.skip("firefox-esr is not installed (optional; PINHOLE_CLIENTS=all installs it)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
    process = subprocess.Popen([firefox, "--headless", "--marionette", "--no-remote", "--profile", str(tmp_path)],
                               env=dict(os.environ, HOME=str(tmp_path), MOZ_DISABLE_CONTENT_SANDBOX="1"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert assert_other_browser_works(Marionette(port), daemon, figure, "Firefox") == "canvas"
    finally:
        process.terminate()
        process.wait(20)
