#!/usr/bin/env bash
# Unpacks packages of a newer Debian into a folder, without installing them: programs that this release has not.
# Fit for what needs little besides itself, such as lyrebird, which is one file. The mirror is that of this machine's own
# apt, and Debian's signatures are checked.
#
#     tools/newer_debian.sh SUITE FOLDER PACKAGE...        tools/newer_debian.sh sid /opt/newer lyrebird
set -euo pipefail
(($# >= 3)) || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1 folder=$(realpath -m "$2")
shift 2

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/\?$') \
    || { echo "newer_debian: apt of this machine has no Debian mirror" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$folder"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
options=(
    -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Acquire::Languages=none
    -o APT::Sandbox::User=root
)
cd "$work"
apt-get "${options[@]}" update
apt-get "${options[@]}" download "$@"
for package in ./*.deb; do
    dpkg-deb --extract "$package" "$folder"
done
