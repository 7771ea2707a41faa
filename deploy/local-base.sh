#!/bin/sh
# Makes a base image from Debian packages, for machines where no image registry answers: Python 3.11 and nothing else.
# Usage: deploy/local-base.sh [IMAGE]      IMAGE is phantomband-base:bookworm if absent
set -eu
IMAGE=${1:-phantomband-base:bookworm}
SUITE=bookworm

fail() { printf 'local-base: %s\n' "$*" >&2; exit 1; }

command -v docker >/dev/null || fail "there is no docker command. Install it (Debian: apt-get install docker.io)"
command -v mmdebstrap >/dev/null || fail "there is no mmdebstrap. Install it (Debian: apt-get install mmdebstrap)"
docker version >/dev/null 2>&1 || fail "no container engine answers. Start it, or join its group"

# Documentation, locales and package lists are left out; nothing in the image needs them.
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/*' \
    "$SUITE" - \
    | docker import --change 'CMD ["python3"]' - "$IMAGE" >/dev/null
# A pipe's first half can fail unseen: look at what came out.
docker run --rm --network none "$IMAGE" python3 -c 'import ensurepip, venv' \
    || { docker rmi "$IMAGE" >/dev/null 2>&1 || true; fail "the image is not usable: see mmdebstrap's messages above"; }
printf 'local-base: %s is ready\n' "$IMAGE" >&2
