"""SOCKS5 as we speak it to a client program: CONNECT to an IP address, arguments as user name and password. Sans-io.

Source: RFC 1928, RFC 1929; pt-spec, section 3.5.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from phantomband.core.errors import Malformed
from phantomband.core.wire import u16
from phantomband.transports.managed.arguments import socks_credentials
from phantomband.transports.managed.steps import Steps

VERSION = 5
NO_LOGIN, LOGIN = 0, 2
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4

REPLIES = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928, section 6."""


class Dialling(Steps):
    """One connection through a program.

    Args: host: an IP literal; arguments: by the program's names.

    Raises:
        Malformed: the arguments are too long.
    """

    peer_ip = b""

    def __init__(self, host: str, port: int, arguments: Mapping[str, str]) -> None:
        super().__init__()
        ip = ipaddress.ip_address(host)
        kind = IPV4 if ip.version == 4 else IPV6
        self._request = bytes((VERSION, CONNECT, 0, kind)) + ip.packed + u16(port)
        self._login = b""
        if arguments:
            user, password = socks_credentials(arguments)
            self._login = bytes((1, len(user))) + user + bytes((len(password),)) + password
        self._method = LOGIN if arguments else NO_LOGIN
        self._step = self._chosen
        self._reply = bytes((VERSION, 1, self._method))

    def _chosen(self) -> bool | None:
        taken = self._take(2)
        if taken is None:
            return None
        if taken != bytes((VERSION, self._method)):
            raise Malformed("the program takes no parameters by SOCKS5")
        self._reply += self._login or self._request
        self._step = self._logged_in if self._login else self._answer
        return False

    def _logged_in(self) -> bool | None:
        taken = self._take(2)
        if taken is None:
            return None
        if taken[1]:
            raise Malformed("the program refuses the parameters of the address")
        self._reply += self._request
        self._step = self._answer
        return False

    def _answer(self) -> bool | None:
        if len(self._buffer) >= 2 and (self._buffer[0] != VERSION or self._buffer[1]):
            raise Malformed(f"the program could not connect: {REPLIES.get(self._buffer[1], 'unknown reason')}")
        if len(self._buffer) < 5:
            return None
        sizes = {IPV4: 4, IPV6: 16, NAME: 1 + self._buffer[4]}
        if self._buffer[3] not in sizes:
            raise Malformed("an answer with an unknown kind of address")
        return None if self._take(4 + sizes[self._buffer[3]] + 2) is None else True
