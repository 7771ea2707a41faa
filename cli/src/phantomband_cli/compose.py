"""`phantomband testnet compose`: a whole network as containers, for `docker compose up`.

Who reaches whom is decided by the networks, not by the services' good will:

    access     the client alone; carries its SOCKS and HTTP ports to 127.0.0.1 of the host, and nothing else
    clients    client and gateways: tls, quic and what the client uses
    links      gateways among themselves: tcp
    targets    relays of exits, and the web server that they can reach
    (none)     directories, mixers, relays that are no exits: they have only the Unix sockets of their node

Each service has a volume of its own for its keys; the four of a node share one for their sockets, kept in
memory. Addresses are fixed because the genesis file names them: node I is SUBNET.1.(10+I) on `links`,
SUBNET.2.(10+I) on `clients`; the client is SUBNET.3.10 on `access`. The text uses nothing that docker-compose
1.29 would ignore.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from phantomband.core.errors import UserError

from phantomband_cli.testnet.options import Options

FILE_NAME = "compose.yaml"
DEFAULT_SUBNET = "10.86"
FIRST_HOST = 10
"""Host number before the first node's; lower ones are the engine's own and the client's."""

DOCKERFILE = "deploy/Dockerfile"
PUBLIC_BASE = "python:3.11-slim-bookworm"

LISTEN = (("tcp", 1, 9001), ("tls", 2, 9002), ("quic", 2, 9003))
"""Transport, third number of its network, port."""

CHOSEN = (("obfs4", 2, 9004), ("websocket", 2, 9005), ("doh", 2, 9006))
"""The same, where the client uses it; with `auto` all."""

IMAGES = {
    "gateway": "512m",
    "relay": "512m",
    "mixer": "512m",
    "directory": "256m",
    "client": "512m",
    "cli": "256m",
}
"""Memory that a service may take: more than each needs (a mixer holds at most 192 MiB of cells)."""


def generate(out: Path, options: Options, subnet: str = DEFAULT_SUBNET) -> Path:
    """Writes compose.yaml into the directory `out`, made if absent. Returns: the file.

    The file builds images itself if `out` is the project's own directory; elsewhere they must be there.

    Args:
        subnet: the first two numbers of addresses that nothing else on the machine uses.

    Raises:
        UserError: the subnet cannot be, or the file cannot be written.
    """
    text = _render(options, subnet, build=(out / DOCKERFILE).is_file())
    file = out / FILE_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as e:
        raise UserError(f"{file}: cannot be written ({e.strerror}). Choose another directory with --out") from None
    return file


def render(options: Options, subnet: str = DEFAULT_SUBNET) -> str:
    """The text that `generate` writes into the project's own directory."""
    return _render(options, subnet, build=True)


def _render(options: Options, subnet: str, build: bool) -> str:
    _check(subnet)
    parts = [_head(options), _templates(options, build), "services:\n", _genesis(options, subnet)]
    parts += [_node(options, subnet, index) for index in range(options.nodes)]
    parts += [_client(options, subnet), _TARGET, _networks(subnet), _volumes(options)]
    return "".join(parts)


def _check(subnet: str) -> None:
    try:
        private = ipaddress.ip_network(f"{subnet}.0.0/16").is_private
    except ValueError:
        private = False
    if not private:
        raise UserError(f"--subnet {subnet}: not two numbers of a private network. Write it as {DEFAULT_SUBNET}")


def _head(options: Options) -> str:
    command = (
        f"phantomband testnet compose --nodes {options.nodes} --mix {options.mix} --lane {options.lane}"
        f" --exits {options.exits} --transport {options.transport}"
        f" --padding {options.padding} --profile {options.profile} --directories {options.directories}"
    )
    return f"""\
# Written by: {command}
# Do not edit it: run that again. What is what: docs/how-to/run-with-containers.md
#   make images          builds the images, first
#   docker compose up    (or docker-compose up) starts all; SOCKS5 on 127.0.0.1:9150, HTTP CONNECT on :9151
#   curl --socks5-hostname 127.0.0.1:9150 http://target/

"""


def _templates(options: Options, build: bool) -> str:
    return _LOCKED + "".join(_image(name, build) for name in IMAGES) + _settings(options)


_TMP = "/tmp:size=16m,mode=1777,nosuid,nodev,noexec"  # noqa: S108 - inside a container, in memory
_SOCKETS = "size=1m,uid=10001,gid=10001,mode=0700,nosuid,nodev,noexec"

_LOCKED = f"""\
x-locked: &locked
  restart: unless-stopped
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  tmpfs: ["{_TMP}"]
  pids_limit: 128
  logging: {{driver: json-file, options: {{max-size: 10m, max-file: "2"}}}}

"""


def _image(name: str, build: bool) -> str:
    how = f"""\
  build:
    context: .
    dockerfile: {DOCKERFILE}
    args: {{SERVICE: {name}, BASE: "${{PHANTOMBAND_BASE:-{PUBLIC_BASE}}}"}}
"""
    return f"""\
x-{name}: &{name}
  <<: *locked
  image: phantomband-{name}
{how if build else ""}\
  mem_limit: {IMAGES[name]}
{_AFTER if name != "cli" else ""}
"""


_AFTER = """\
  depends_on: {genesis: {condition: service_completed_successfully}}
"""


def _settings(options: Options) -> str:
    return f"""\
x-settings: &settings
  PHANTOMBAND_LANE: {options.lane}
  PHANTOMBAND_MIXER__STRATEGY: {_quoted(options.mix)}
  PHANTOMBAND_GATEWAY__PADDING: {_quoted(options.padding)}

x-exit: &exit
  PHANTOMBAND_RELAY__EXIT_POLICY: '["accept *:*"]'
  PHANTOMBAND_RELAY__EXIT_ALLOW_PRIVATE: "true"

"""


def _quoted(text: str) -> str:
    return json.dumps(text)


def _addresses(options: Options, subnet: str, index: int) -> list[str]:
    listen = (*LISTEN, *(entry for entry in CHOSEN if options.transport in (entry[0], "auto")))
    return [f"{t}://{subnet}.{network}.{FIRST_HOST + index + 1}:{port}" for t, network, port in listen]


def _genesis(options: Options, subnet: str) -> str:
    directories = list(enumerate(options.names[: options.directories], 1))
    seats = "".join(f"      - {name}={','.join(_addresses(options, subnet, i - 1))}\n" for i, name in directories)
    keys = "".join(
        f"      - {name}-{part}:/keys/{i}/{part}\n" for i, name in directories for part in ("directory", "gateway")
    )
    return f"""\
  # Makes the directories' keys and the genesis file, and ends.
  genesis:
    <<: *cli
    restart: "no"
    network_mode: none
    healthcheck: {{disable: true}}
    entrypoint: ["python", "-m", "phantomband_cli.ceremony"]
    command:
      - --min-relays={options.nodes}
{seats}\
    volumes:
      - genesis:/genesis
{keys}
"""


def _node(options: Options, subnet: str, index: int) -> str:
    name, host = options.names[index], FIRST_HOST + index + 1
    is_exit = options.is_exit(index)
    place = "networks: [targets]" if is_exit else "network_mode: none"
    merged = "[*settings, *exit]" if is_exit else "*settings"
    listen = json.dumps(_addresses(options, subnet, index))
    return f"""\
  {name}-directory:
    <<: *directory
    network_mode: none
    environment: &{name}
      <<: {merged}
      PHANTOMBAND_NICKNAME: {_quoted(name)}
      PHANTOMBAND_GATEWAY__LISTEN: '{listen}'
    volumes: ["genesis:/genesis:ro", "{name}-run:/run/phantomband", "{name}-directory:/data/directory"]

  {name}-gateway:
    <<: *gateway
    networks:
      links: {{ipv4_address: {subnet}.1.{host}}}
      clients: {{ipv4_address: {subnet}.2.{host}}}
    environment: *{name}
    volumes: ["genesis:/genesis:ro", "{name}-run:/run/phantomband", "{name}-gateway:/data/gateway"]

  {name}-relay:
    <<: *relay
    {place}
    environment: *{name}
    volumes: ["genesis:/genesis:ro", "{name}-run:/run/phantomband", "{name}-relay:/data/relay"]

  {name}-mixer:
    <<: *mixer
    network_mode: none
    environment: *{name}
    volumes: ["genesis:/genesis:ro", "{name}-run:/run/phantomband"]

"""


def _client(options: Options, subnet: str) -> str:
    """Its proxies listen where only the host reaches them, not on `clients`."""
    address = f"{subnet}.3.{FIRST_HOST}"
    return f"""\
  client:
    <<: *client
    networks:
      access: {{ipv4_address: {address}}}
      clients: {{}}
    tmpfs: ["{_TMP}", "/run/phantomband:{_SOCKETS}"]
    ports: ["127.0.0.1:${{SOCKS_PORT:-9150}}:9150", "127.0.0.1:${{HTTP_PORT:-9151}}:9151"]
    environment:
      PHANTOMBAND_DATA_DIR: /data/client
      PHANTOMBAND_SOCKS_HOST: {address}
      PHANTOMBAND_HTTP_HOST: {address}
      PHANTOMBAND_HTTP_PORT: "9151"
      PHANTOMBAND_TRANSPORT: {options.transport}
      PHANTOMBAND_PROFILE: {options.profile}
    volumes: ["genesis:/genesis:ro", "client:/data/client"]

"""


_TARGET = """\
  # Stands for the rest of the Internet.
  target:
    <<: *cli
    networks: [targets]
    sysctls: {net.ipv4.ip_unprivileged_port_start: 0}
    entrypoint: ["python", "-m", "phantomband_cli.target"]
    healthcheck:
      test: ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1/', timeout=3)"]
      interval: 15s
      timeout: 5s

"""


def _networks(subnet: str) -> str:
    return f"""\
networks:
  # Not internal, or no port of the client could be published; but nothing is translated on the way out.
  access:
    driver_opts: {{com.docker.network.bridge.enable_ip_masquerade: "false"}}
    ipam: {{config: [{{subnet: {subnet}.3.0/24}}]}}
  clients: {{internal: true, ipam: {{config: [{{subnet: {subnet}.2.0/24}}]}}}}
  links: {{internal: true, ipam: {{config: [{{subnet: {subnet}.1.0/24}}]}}}}
  targets: {{internal: true}}

"""


def _volumes(options: Options) -> str:
    memory = f'{{driver_opts: {{type: tmpfs, device: tmpfs, o: "{_SOCKETS}"}}}}'
    lines = ["volumes:\n", "  genesis:\n", "  client:\n"]
    for name in options.names:
        lines += [
            f"  {name}-run: {memory}\n",
            *(f"  {name}-{part}:\n" for part in ("directory", "gateway", "relay")),
        ]
    return "".join(lines)
