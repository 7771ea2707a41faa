#!/bin/sh
# Builds the images phantomband-{gateway,relay,mixer,directory,client,cli}. Usage: deploy/build.sh [SERVICE...]
# Everything is fetched before, so the builds themselves have no network. Where no image registry answers, the base image
# is made here (deploy/local-base.sh). PHANTOMBAND_BASE names another base.
set -eu
cd "$(dirname "$0")/.."
PUBLIC_BASE=python:3.11-slim-bookworm
LOCAL_BASE=phantomband-base:bookworm

say() { printf 'images: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { docker image inspect "$1" >/dev/null 2>&1; }

docker version >/dev/null 2>&1 || fail "no container engine answers. Install one (Debian: apt-get install docker.io) or start it"

find_base() {
    if [ -n "${PHANTOMBAND_BASE:-}" ]; then
        printf '%s' "$PHANTOMBAND_BASE"
    elif have "$LOCAL_BASE"; then
        printf '%s' "$LOCAL_BASE"
    elif have "$PUBLIC_BASE" || timeout 120 docker pull --quiet "$PUBLIC_BASE" >/dev/null 2>&1; then
        printf '%s' "$PUBLIC_BASE"
    else
        say "no image registry answers; making $LOCAL_BASE from Debian packages ..."
        deploy/local-base.sh "$LOCAL_BASE" >&2 || exit 1
        printf '%s' "$LOCAL_BASE"
    fi
}

base=$(find_base) || fail "there is no base image"
say "wheels ..."
deploy/wheels.sh "$(docker version --format '{{.Server.Arch}}')"
[ $# -gt 0 ] || set -- gateway relay mixer directory client cli
for service in "$@"; do
    say "phantomband-$service on $base ..."
    # Nothing but the wheels goes in: the images change when they do.
    tar -c deploy/Dockerfile wheels | docker build --quiet --network none --file deploy/Dockerfile \
        --build-arg "BASE=$base" --build-arg "SERVICE=$service" --tag "phantomband-$service" - >/dev/null \
        || fail "phantomband-$service could not be built: see above"
done
say "done"
