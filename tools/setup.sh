#!/bin/sh
# Makes .venv from requirements.lock: idempotent, and instant when nothing changed.
# Needs Python 3.11 or newer. pip's own settings (index, certificates, proxies) are respected; no host is named here.
set -eu
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
STAMP=$VENV/.phantomband-stamp

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }

# What the environment is made from: any change of these makes it anew.
fingerprint() {
    cat requirements.lock pyproject.toml common/build_protos.py tools/setup.sh \
        common/pyproject.toml cli/pyproject.toml services/*/pyproject.toml protos/phantomband/proto/*.proto | cksum
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer found. Install it (Debian 12: apt-get install python3 python3-venv)"
}

make_venv() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "setup: installing python3-venv ..."
            { apt-get update -qq && apt-get install -y -qq python3-venv; } >/dev/null 2>&1 \
                || fail "python3-venv could not be installed. Run: apt-get install python3-venv"
        else
            fail "Python has no venv module. Run: sudo apt-get install python3-venv"
        fi
    fi
    "$python" -m venv "$VENV" || fail "$VENV could not be made. Remove it and run make setup again"
}

# uv installs many times faster than pip, but reads other settings: hand pip's over. Values set for uv itself win.
pip_setting() { "$VENV/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
hand_over_settings() {
    index=${PIP_INDEX_URL:-$(pip_setting index-url)}
    extra=${PIP_EXTRA_INDEX_URL:-$(pip_setting extra-index-url)}
    cert=${PIP_CERT:-$(pip_setting cert)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    [ -z "$extra" ] || export UV_INDEX="${UV_INDEX:-$extra}"
    [ -z "$cert" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
}

install_with_uv() {
    [ -z "${PIP_NO_INDEX:-}" ] || return 1
    awk '/^uv==/ {on=1} on {print; if ($0 !~ /\\$/) exit}' requirements.lock >"$VENV/uv.lock"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r "$VENV/uv.lock" || return 1
    hand_over_settings
    "$VENV/bin/uv" pip sync -q --python "$VENV/bin/python" --require-hashes --strict requirements.lock
}

install_with_pip() {
    say "setup: uv did not work here; using pip ..."
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
}

install_ourselves() {
    "$VENV/bin/python" common/build_protos.py
    set --
    for package in common cli services/*/; do set -- "$@" -e "./${package%/}"; done
    if [ -x "$VENV/bin/uv" ]; then
        "$VENV/bin/uv" pip install -q --no-sources --python "$VENV/bin/python" --no-build-isolation --no-deps "$@"
    else
        "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps "$@"
    fi
}

if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ] && [ -f common/src/phantomband/proto/__init__.py ]; then
    exit 0
fi
say "setup: making $VENV ..."
[ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
install_with_uv || install_with_pip || fail "the packages could not be installed: see above. Check the network or pip's settings"
install_ourselves || fail "PhantomBand's own packages could not be installed: see above"
fingerprint >"$STAMP"
say "setup: done"
