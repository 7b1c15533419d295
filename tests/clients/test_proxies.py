"""Behind nginx and Caddy, with the lines of docs/proxies.md: the page over https, changes, and streams that stay recent."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from daemon import RATE, until
from support.lane import ROOT
from test_browser import assert_console_is_clean, assert_moves, api, line_error, open_panel, type_in, wait_for_state
from test_wire import Connection, get

NAME = "cam.example.com"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def documented(language: str) -> str:
    """The lines of docs/proxies.md."""
    return re.search(rf"```{language}\n(.*?)```", (ROOT / "docs/proxies.md").read_text(), re.S)[1]


@pytest.fixture
def proxy(tmp_path):
    """Starts a proxy: proxy(command, port)."""
    started = []

    def start(command: list[str], port: int):
        assert shutil.which(command[0]), f"{command[0]} is not there: tests/clients/run gets it"
        log = open(tmp_path / "proxy.log", "wb")
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        start_new_session=True, env=os.environ | {"HOME": str(tmp_path)}))

        def answers() -> bool:
            assert started[-1].poll() is None, (tmp_path / "proxy.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(f"{command[0]} listens", answers, 30)

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)   # Caddy would wait for streams to end
        process.wait(10)


@pytest.fixture
def nginx(proxy, tmp_path):
    """Starts nginx with one server, around it what Debian's nginx.conf has: nginx(server, port)."""

    def start(server: str, port: int):
        paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;\n" if os.geteuid() == 0 else ""
        (tmp_path / "nginx.conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {tmp_path}/pid;\nevents {{}}\n"
            f"http {{\nsendfile on;\ntcp_nopush on;\ngzip on;\naccess_log off;\n{paths}{server}\n}}\n")
        proxy(["nginx", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], port)

    return start


def plain(daemon, port) -> str:
    """What people write first."""
    return f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {daemon.url}; }} }}"


def slow_viewer_age(port: int, seconds: float, share: float) -> float:
    """How old the pictures are in the end that a viewer gets who takes a share of them only."""
    # nginx would send chunks to HTTP/1.1.
    with Connection(port, get("/stream", "1.0"), receive_buffer=16384) as connection:
        boundary = re.search(r"boundary=(\w+)", connection.headers["content-type"])[1].encode()
        connection.until(b"--" + boundary + b"\r\n")
        began, ages = time.monotonic(), []
        while time.monotonic() - began < seconds:
            part = connection.part(boundary)
            ages.append(time.time() - float(part.headers["x-timestamp"]))
            time.sleep(max(0.0, began + len(ages) / (RATE * share) - time.monotonic()))
        return sorted(ages[-5:])[2]


def test_a_slow_viewer_behind_nginx_sees_the_present(own_daemon, nginx, figure):
    daemon = own_daemon("encoder.quality=95")
    port = free_port()
    # Loopback's own send buffer is 4 MB, half a minute of such pictures; towards a network card it is a small part of that.
    nginx(plain(daemon, f"{port} sndbuf=64k"), port)
    ages = [slow_viewer_age(where, 16, 0.4) for where in (daemon.port, port)]
    figure("two fifths of the frame rate, age of pictures", f"direct {ages[0]:.1f} s, through nginx as installed {ages[1]:.1f} s")
    # Kept back by nginx, pictures were nearly 10 s old by now, and older each second.
    assert ages[1] < 4


def assert_page_and_changes_work(daemon, browser, port: int):
    driver = browser(arguments=["--ignore-certificate-errors", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"])
    driver.get(f"https://{NAME}:{port}/")
    wait_for_state(driver, "streaming")
    assert_moves(driver)
    open_panel(driver, "Settings")
    type_in(driver, "Quality", "33")
    until("the change is in force", lambda: api(daemon, "settings")["quality"] == 33)
    assert line_error(driver, "Quality") == ""
    peers = [viewer["peer"] for viewer in daemon.status()["viewers"]["list"]]
    assert peers == ["127.0.0.1"], "the browser's address, as the proxy tells it: without a port"
    assert_console_is_clean(driver)


def test_https_by_nginx(own_daemon, browser, nginx, tmp_path):
    daemon = own_daemon(f"http.allowed_hosts={NAME}", "http.trusted_proxies=127.0.0.1")
    port = free_port()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-days", "2",
                    "-keyout", tmp_path / "cam.key", "-out", tmp_path / "cam.pem"], check=True, capture_output=True)
    server = documented("nginx").replace("443", f"127.0.0.1:{port}").replace("/etc/ssl", str(tmp_path))
    nginx(server.replace("192.168.1.50", f"127.0.0.1:{daemon.port}"), port)
    assert_page_and_changes_work(daemon, browser, port)


def test_https_by_caddy(own_daemon, browser, proxy, tmp_path):
    daemon = own_daemon(f"http.allowed_hosts={NAME}", "http.trusted_proxies=127.0.0.1")
    port = free_port()
    site = documented("caddy").replace(NAME + " {", f"{NAME}:{port} {{\n    tls internal")
    (tmp_path / "Caddyfile").write_text(
        f"{{\n    admin off\n    skip_install_trust\n    auto_https disable_redirects\n    storage file_system {tmp_path}/caddy\n}}\n"
        + site.replace("192.168.1.50", f"127.0.0.1:{daemon.port}"))
    proxy(["caddy", "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")], port)
    assert_page_and_changes_work(daemon, browser, port)


def test_a_plain_proxy_pass_streams_and_says_what_changes_need(own_daemon, browser, nginx):
    daemon = own_daemon()
    port = free_port()
    nginx(plain(daemon, port), port)
    driver = browser()
    driver.get(f"http://127.0.0.1:{port}/")
    wait_for_state(driver, "streaming")
    assert_moves(driver)
    open_panel(driver, "Settings")
    type_in(driver, "Quality", "33")
    until("the page says what to do", lambda: "proxy_set_header Host $http_host" in line_error(driver, "Quality"))
    assert api(daemon, "settings")["quality"] == 80
    assert_console_is_clean(driver, network_errors_expected=True)
