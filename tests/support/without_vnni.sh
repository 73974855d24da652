#!/bin/sh
# Run a command on an emulated processor without VNNI and AVX-512; /proc/cpuinfo does not list them either.
# Needs qemu-user, and root or user namespaces.
#
# usage: without_vnni.sh COMMAND ...
set -eu

command -v qemu-x86_64 >/dev/null || { echo "without_vnni: qemu-user is not installed: sudo apt-get install qemu-user" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || { echo "without_vnni: needs an x86_64 processor" >&2; exit 1; }

if [ "${WITHOUT_VNNI:-}" != inside ]; then
    user=
    [ "$(id -u)" = 0 ] || user="--user --map-root-user"
    # shellcheck disable=SC2086  # two options
    WITHOUT_VNNI=inside exec unshare --mount $user "$0" "$@"
fi

listed=$(mktemp)
sed 's/[a-z0-9_]*vnni[a-z0-9_]*//g; s/avx512[a-z0-9_]*//g' /proc/cpuinfo >"$listed"
mount --bind "$listed" /proc/cpuinfo
rm -f "$listed"
program=$(command -v "$1")
shift
# QEMU warns about each Haswell feature that it does not emulate; none of them is needed here.
exec qemu-x86_64 -cpu Haswell,-hle,-rtm,-invpcid,-tsc-deadline,-pcid "$program" "$@"
