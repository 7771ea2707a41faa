#!/bin/sh
# Fills wheels/ with all that the images install: the run-time packages of requirements.lock, each checked against its
# hash there, and our own. Usage: deploy/wheels.sh [amd64|arm64]   (the images' processor; this machine's if absent)
# Needs .venv (make setup). What is in wheels/ already is not fetched again.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OURS="common cli services/client services/gateway services/relay services/mixer services/directory"
PYTHON_VERSION=3.11   # of the base image
GLIBC_MINOR=36        # of Debian 12

fail() { printf 'wheels: %s\n' "$*" >&2; exit 1; }

[ -x "$PYTHON" ] || fail "$PYTHON is missing. Run: make setup"
case ${1:-$(uname -m)} in
    amd64 | x86_64) machine=x86_64 ;;
    arm64 | aarch64) machine=aarch64 ;;
    *) fail "no packages are built for ${1:-$(uname -m)}. Use amd64 or arm64" ;;
esac
platforms="--platform manylinux2014_$machine"
for minor in $(seq 18 $GLIBC_MINOR); do platforms="$platforms --platform manylinux_2_${minor}_$machine"; done

mkdir -p wheels
rm -f wheels/phantomband*.whl
for package in $OURS; do
    "$PYTHON" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels "./$package" \
        || fail "$package could not be built: see above"
done

# The lock file pins versions here and hashes below: pip alone would want a hash for our own packages too.
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
sed -e '/--hash=/d' -e 's/ *\\$//' requirements.lock >"$pins"
# shellcheck disable=SC2086 # several words are meant
"$PYTHON" -m pip download --quiet --dest wheels --find-links wheels --constraint "$pins" --only-binary :all: \
    --python-version $PYTHON_VERSION --implementation cp $platforms phantomband-cli \
    || fail "the packages could not be fetched: see above. Check the network or pip's settings"

for wheel in wheels/*.whl; do
    case $wheel in wheels/phantomband*) continue ;; esac
    hash=$(sha256sum "$wheel" | cut -d ' ' -f 1)
    grep -q "sha256:$hash" requirements.lock || { rm -f "$wheel"; fail "$wheel is not what requirements.lock names"; }
done
