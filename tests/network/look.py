"""What somebody else on the network sees: host names and services, asked by mDNS with an implementation of its own.

look.py host NAME…     addresses of each name, a line each
look.py services       instance, server, port, properties of each _http._tcp service
"""

import socket
import sys
import time

from zeroconf import AddressResolver, IPVersion, ServiceBrowser, Zeroconf

# Types of DNS records.
ADDRESSES = {1: socket.AF_INET, 28: socket.AF_INET6}


def host(zeroconf: Zeroconf, name: str) -> str:
    """All that is answered within two seconds: a name may have several addresses, in several packets."""
    AddressResolver(f"{name}.local.").request(zeroconf, 3000)
    time.sleep(2)
    records = zeroconf.cache.entries_with_name(f"{name}.local.")
    addresses = {socket.inet_ntop(ADDRESSES[record.type], record.address) for record in records if record.type in ADDRESSES}
    return " ".join(sorted(addresses))


class Services:
    """Collects them."""

    def __init__(self):
        self.seen = {}

    def add_service(self, zeroconf, kind, name):
        info = zeroconf.get_service_info(kind, name, 3000)
        if info:
            text = ",".join(f"{key.decode()}={value.decode()}" for key, value in sorted(info.properties.items()))
            self.seen[name] = f"{name.removesuffix('.' + kind)}|{info.server}|{info.port}|{text}"

    update_service = add_service

    def remove_service(self, zeroconf, kind, name):
        self.seen.pop(name, None)


with Zeroconf(ip_version=IPVersion.All) as mdns:
    if sys.argv[1] == "host":
        for wanted in sys.argv[2:]:
            print(host(mdns, wanted))
    else:
        services = Services()
        ServiceBrowser(mdns, "_http._tcp.local.", services)
        time.sleep(4)
        print("\n".join(sorted(services.seen.values())))
