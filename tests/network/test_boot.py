"""The appliance's units started by Debian 13's systemd, as the first process of namespaces; the program is a stand-in."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from machines import DEBIAN, OVERLAY, Machine, found, look
from support.lane import ROOT, until

# What it has of a machine: no devices, so neither card nor udev; a cgroup hierarchy without controllers.
INIT = """
work=$1 debian=$2 overlay=$3 repository=$4 root=$work/root
mount -t tmpfs machine "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay -o "lowerdir=$debian,upperdir=$work/upper,workdir=$work/work" overlay "$root"
cp -a "$overlay/." "$root"
cp "$PINHOLE_TEST_SHIM" "$root/usr/lib/no_loop.so"
echo /usr/lib/no_loop.so >"$root/etc/ld.so.preload"
cp "$repository"/systemd/pinhole.{service,socket} "$root/usr/lib/systemd/system"
# What Debian's packages have enabled, and have no use for without a bus.
find "$root/etc/systemd/system" -name '*.wants' -exec rm -r {} +
for unit in systemd-logind.service getty.target; do ln -s /dev/null "$root/etc/systemd/system/$unit"; done
"$repository/scripts/build/enable-units" "$root"
mkdir -p "$root"/{boot,data}
for place in boot data; do
	printf '[Mount]\\nWhat=tmpfs\\nWhere=/%s\\nType=tmpfs\\nOptions=ro\\n[Install]\\nWantedBy=multi-user.target\\n' "$place" \\
		>"$root/usr/lib/systemd/system/$place.mount"
done
cat >"$root/usr/bin/pinholed" <<'END'
#!/bin/sh
case ${1:-} in
--write-system-files) mkdir "$2" && echo pinhole >"$2/hostname" ;;
*) exec systemd-notify --ready --exec \\; sleep infinity ;;
esac
END
chmod 755 "$root/usr/bin/pinholed"
printf '00000000c0ffee2a\\0' >"$root/etc/serial"
mkdir "$root/usr/lib/systemd/system/pinhole-system.service.d"
printf '[Service]\\nEnvironment=PINHOLE_SERIAL=/etc/serial\\n' \\
	>"$root/usr/lib/systemd/system/pinhole-system.service.d/test.conf"
# The stand-in feeds no watchdog.
printf '[Service]\\nWatchdogSec=0\\n' >"$root/usr/lib/systemd/system/pinhole.service.d/test.conf"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root"/dev/{pts,shm}
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir "$root/run/outside"
cd "$root"
pivot_root . run/outside
umount -l /run/outside
echo ready
exec env -i container=test PATH=/usr/bin:/usr/sbin /usr/lib/systemd/systemd --show-status=no </dev/null >/dev/null
"""


class Appliance(Machine):
    """One that systemd has started."""

    def __init__(self, folder: Path, cgroup: Path):
        folder.mkdir()
        self.log, self.daemons = {}, {}
        self.init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--net", "--pid", "--cgroup", "--fork",
             "--kill-child", "--propagation", "private", "bash", "-euc", INIT, "init", str(folder), str(DEBIAN), str(OVERLAY),
             str(ROOT)], stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0"))
        assert self.init.stdout.readline() == "ready\n"
        self.pid = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0]

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", self.pid, "--mount", "--uts", "--net", "--pid", "--cgroup",
                "/usr/bin/env", "-i", "PATH=/usr/bin:/usr/sbin", *command]

    def is_up(self) -> bool:
        return self.run("systemctl is-system-running || true").strip() in ("running", "degraded")


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    hierarchy = next((Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()
                      if line.split()[2] == "cgroup2"), None)
    if not hierarchy:
        pytest.skip("this machine has no cgroup2 file system mounted")
    cgroup = hierarchy / f"pinhole-test-{time.monotonic_ns()}"
    cgroup.mkdir()
    machine = Appliance(tmp_path_factory.mktemp("boot") / "machine", cgroup)
    try:
        until("started", machine.is_up, 120, 0.5)
        yield machine
        print(machine.run("journalctl -b --no-pager"))
    finally:
        machine.end()
        time.sleep(1)
        for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        cgroup.rmdir()


def show(machine: Machine, unit: str, *names: str) -> list[str]:
    lines = machine.run(f"systemctl show -p {','.join(names)} {unit}").splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return [values[name] for name in names]


def processes(machine: Machine) -> dict[str, list[list[str]]]:
    """Children of PID 1 by their programs' names: user, and effective capabilities."""
    seen: dict[str, list[list[str]]] = {}
    for status in machine.run("cat /proc/[0-9]*/status 2>/dev/null || true").split("Name:")[1:]:
        fields = dict(line.split(":", 1) for line in ("Name:" + status).splitlines() if ":" in line)
        if fields["PPid"].strip() == "1":
            seen.setdefault(fields["Name"].strip(), []).append([fields["Uid"].split()[0], fields["CapEff"].strip()])
    return seen


def test_all_started(appliance):
    assert appliance.run("systemctl --failed --no-legend --plain") == ""
    for unit in ("pinhole.service", "pinhole-system.service", "pinhole-later.service", "pinhole-boot.service",
                 "pinhole-name.service", "systemd-networkd.service", "systemd-resolved.service", "pinhole-recovered.timer"):
        assert show(appliance, unit, "ActiveState") == ["active"], unit
    # Nothing waits for a network.
    assert show(appliance, "network-online.target", "ActiveState") == ["inactive"]
    assert show(appliance, "systemd-networkd-wait-online.service", "LoadState") == ["masked"]


def test_no_more_processes_than_needed(appliance):
    running = processes(appliance)
    # (timesyncd is not for containers, the last is the program's stand-in.)
    assert {name: len(all) for name, all in running.items()} == {
        "systemd-journal": 1, "systemd-network": 1, "systemd-resolve": 2, "sleep": 1}
    # Both resolveds have given up being root, and all but the use of the network.
    users = {uid for uid, _ in running["systemd-resolve"]}
    assert users == {appliance.run("id -u systemd-resolve").strip()}
    for _, capabilities in running["systemd-resolve"]:
        assert int(capabilities, 16) & ~(1 << 8 | 1 << 10 | 1 << 13) == 0, capabilities


def test_what_comes_first(appliance):
    """The picture waits for the name and the time zone, and for nothing of the network; names are answered to after it."""
    times = {unit: int(show(appliance, unit, "ActiveEnterTimestampMonotonic")[0])
             for unit in ("pinhole-system.service", "pinhole.service", "systemd-resolved.service", "pinhole-name.service")}
    assert sorted(times, key=times.get) == list(times)
    after = show(appliance, "pinhole.service", "After", "Wants", "Requires")
    assert not any(word in line for line in after for word in ("networkd", "resolved", "network"))
    assert int(show(appliance, "sysinit.target", "ActiveEnterTimestampMonotonic")[0]) < times["pinhole.service"]


def test_names_and_reasons(appliance):
    assert appliance.run("uname -n").strip() == "pinhole"
    assert appliance.run("cat /run/pinhole/unique-name").strip() == "pinhole-ee2a"
    boot = appliance.run("cat /run/pinhole/boot").splitlines()
    assert boot[0] == "boots=1" and boot[1].startswith("why=")
    assert "ro," in appliance.run("grep ' /data ' /proc/mounts")
    assert appliance.run("readlink /etc/localtime /run/pinhole/localtime").split() == [
        "../run/pinhole/localtime", "/usr/share/zoneinfo/UTC"]


def test_run_is_read_only_for_the_program(appliance):
    """systemd leaves it writable (see pinhole.service)."""
    pid = show(appliance, "pinhole.service", "MainPID")[0]
    mounts = {line.split()[1]: line.split()[3].split(",") for line in appliance.run(f"cat /proc/{pid}/mounts").splitlines()}
    assert "ro" in mounts["/run"] and "ro" in mounts["/sys"] and "ro" in mounts["/"]
    # Files that come later are seen, escalate's among them.
    appliance.run(f"echo x >/run/pinhole/later; test -e /proc/{pid}/root/run/pinhole/later; rm /run/pinhole/later")
    assert not any("mount-rootfs" in place for place in mounts)


def test_escalate_may_write(appliance):
    """What runs when the program has ended is not in its sandbox."""
    before = show(appliance, "pinhole.service", "MainPID")[0]
    assert int(before) > 1
    appliance.run(f"kill -KILL {before}")
    until("counted", lambda: appliance.run("cat /run/pinhole/signal 2>/dev/null || true"), 30)
    until("another", lambda: show(appliance, "pinhole.service", "ActiveState") == ["active"], 30)


def test_found_by_both_names(appliance, machines):
    computer = machines(Machine, overlay=False)
    appliance.plug("eth0", computer, "lan0")
    computer.run("ip address add 169.254.9.9/16 dev lan0; ip link set lan0 up")
    found(computer, "pinhole", "pinhole-ee2a")
    service = "Pinhole camera (pinhole-ee2a)|pinhole-ee2a.local.|80|path=/"
    until("the service", lambda: look(computer, "services") == [service], 60, 1)


def test_second_name_comes_back(appliance):
    before = show(appliance, "pinhole-name.service", "MainPID")[0]
    assert int(before) > 1
    appliance.run(f"kill -9 {before}")
    until("another", lambda: show(appliance, "pinhole-name.service", "ActiveState", "MainPID") not in (["active", before],)
          and show(appliance, "pinhole-name.service", "ActiveState") == ["active"], 30)
