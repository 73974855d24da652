#!/bin/sh
# Installs everything that moodring needs on a bare Debian, Ubuntu or macOS machine. The Makefile calls it before every target.
#
# usage: ./bootstrap.sh runtime    the packages of `moodring run`, and the microphone where its system library is available
#        ./bootstrap.sh dev        also the packages for training, export and tests (PyTorch for the CPU, about 2 GB)
#
# A stamp in .venv records what was installed from which pyproject.toml, so that a second call returns at once and opens no
# connection. System packages are optional: without the library of the microphone everything else works.
# Set PYTHON to choose an interpreter. All messages go to stderr: stdout belongs to the program that runs next.
set -eu

cd "$(dirname "$0")"
home=$(pwd -P)  # scripts in .venv contain this path: a clone that was moved is installed again
venv=.venv
profile=${1:-}

note() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'moodring set-up: %s\n' "$*" >&2; exit 1; }

case $profile in
    runtime) extras= ;;
    dev) extras=dev,openvino ;;
    *) fail "usage: ./bootstrap.sh runtime, or ./bootstrap.sh dev" ;;
esac

# --- system packages ------------------------------------------------------------------------------------------------

has() { command -v "$1" >/dev/null 2>&1; }

# Run a command as root, where that is possible without a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif has sudo && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1
    fi
}

may_apt() { has apt-get && as_root true; }

apt_updated=
apt_install() {
    may_apt || return 1
    log=$(mktemp)
    if [ -z "$apt_updated" ]; then
        as_root apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=20 update >"$log" 2>&1 || true
        apt_updated=1
    fi
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    rm -f "$log"
    return 1
}

# --- Python ---------------------------------------------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if is_new_enough "$candidate"; then command -v "$candidate"; return 0; fi
    done
    return 1
}

choose_python() {
    python=$(find_python) && return 0
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not Python 3.11 or newer; set another one, or unset PYTHON"
    if may_apt || has brew; then note "no Python 3.11 or newer found: installing one"; fi
    apt_install python3 python3-venv || true
    python=$(find_python) && return 0
    apt_install python3.11 python3.11-venv || true
    python=$(find_python) && return 0
    if has brew; then brew install --quiet python@3.13 >&2 || true; fi
    python=$(find_python) && return 0
    found=$(python3 --version 2>&1) || found="no python3"
    fail "needs Python 3.11 or newer, found $found; install it (Debian 12, Ubuntu 24.04: sudo apt-get install python3" \
        "python3-venv; macOS: brew install python) or set PYTHON: make run PYTHON=/path/to/python3.11"
}

make_venv() {
    if [ -x $venv/bin/python ] && is_new_enough $venv/bin/python && [ "$(cat $venv/.home 2>/dev/null)" = "$home" ]; then
        return 0
    fi
    choose_python
    rm -rf $venv
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "python$version-venv" ||
            fail "$python has no venv module; install it: sudo apt-get install python$version-venv"
    fi
    note "making $venv with $("$python" --version)"
    "$python" -m venv $venv || fail "$python could not create $venv; check that the disk has space and the folder is writable"
    printf '%s\n' "$home" >$venv/.home
}

# --- the microphone: PyAudio has no Linux wheel; it needs PortAudio's header, a compiler and Python's headers --------

has_portaudio() {
    for prefix in /usr /usr/local /opt/homebrew ${HOMEBREW_PREFIX:-}; do
        if [ -e "$prefix/include/portaudio.h" ]; then return 0; fi
    done
    return 1
}

has_python_headers() {
    $venv/bin/python -c 'import os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'
}

can_build_pyaudio() { has_portaudio && { has gcc || has cc; } && has_python_headers; }

python_dev_package() {  # the headers of the system's own Python; any other brings its own
    $venv/bin/python -c 'import sys
print("python%d.%d-dev" % sys.version_info[:2] if sys.base_prefix == "/usr" else "")'
}

prepare_microphone() {
    if $venv/bin/python -c 'import pyaudio' >/dev/null 2>&1 || can_build_pyaudio; then return 0; fi
    if has apt-get; then
        dev=$(python_dev_package)
        packages="portaudio19-dev gcc libc6-dev${dev:+ $dev}"
        if may_apt; then note "installing $packages for the microphone"; fi
        # shellcheck disable=SC2086  # several names
        if apt_install $packages && can_build_pyaudio; then return 0; fi
        note "continuing without the microphone; to add it: sudo apt-get install $packages, then run this again"
    elif has brew; then
        note "installing portaudio for the microphone"
        if brew install --quiet portaudio >&2 && can_build_pyaudio; then return 0; fi
        note "continuing without the microphone; to add it: xcode-select --install and brew install portaudio, then run this again"
    else
        note "continuing without the microphone; to add it, install PortAudio's development files and a C compiler, then run this again"
    fi
    return 1
}

# --- servers for the tests: a broker, a sound server and a browser; without one its tests are skipped ------------------

prepare_sound_server() {
    if [ "$profile" != dev ] || [ "$(uname)" != Linux ] || has pulseaudio; then return 0; fi
    if may_apt; then note "installing pulseaudio for the tests"; fi
    if apt_install pulseaudio libasound2-plugins; then return 0; fi
    note "continuing without pulseaudio: its tests are skipped; to add it: sudo apt-get install pulseaudio libasound2-plugins"
}

prepare_broker() {
    if [ "$profile" != dev ]; then return 0; fi
    if has openssl && { has mosquitto || [ -x /usr/sbin/mosquitto ] || [ -x /usr/local/sbin/mosquitto ]; }; then return 0; fi
    if may_apt; then note "installing mosquitto and openssl for the tests"; fi
    if apt_install mosquitto openssl; then return 0; fi
    note "continuing without mosquitto: its tests are skipped; to add it: sudo apt-get install mosquitto openssl"
}

prepare_browser() {
    if [ "$profile" != dev ] || has chromium || has chromium-browser || has google-chrome; then return 0; fi
    if may_apt; then note "installing chromium for the tests"; fi
    if apt_install chromium; then return 0; fi
    note "continuing without chromium: its tests are skipped; to add it: sudo apt-get install chromium"
}

prepare_ffmpeg() {
    if [ "$profile" != dev ] || { has ffmpeg && has ffprobe; }; then return 0; fi
    if may_apt; then note "installing ffmpeg for the tests"; fi
    if apt_install ffmpeg; then return 0; fi
    note "continuing without ffmpeg: its tests are skipped; to add it: sudo apt-get install ffmpeg"
}

# --- the packages ---------------------------------------------------------------------------------------------------

pip_install() {
    quiet=--quiet
    if [ -t 2 ]; then quiet=; fi
    CFLAGS="${HOMEBREW_PREFIX:+-I$HOMEBREW_PREFIX/include }${CFLAGS:-}" \
    LDFLAGS="${HOMEBREW_PREFIX:+-L$HOMEBREW_PREFIX/lib }${LDFLAGS:-}" \
        $venv/bin/python -m pip install --disable-pip-version-check --no-input $quiet --editable "$1" >&2
}

target() {  # the project with these extras, the empty ones left out
    joined=$(printf '%s' "$1" | sed 's/^,*//; s/,*$//')
    printf '.%s' "${joined:+[$joined]}"
}

fingerprint() { printf '%s\n' "$home"; cksum pyproject.toml bootstrap.sh; }

# A stamp holds the fingerprint and "mic" or "no mic"; the development set-up contains the runtime's.
is_current() {
    for stamp in "$venv/.stamp-dev" "$venv/.stamp-$profile"; do
        if ! [ -e "$stamp" ] || ! [ -x $venv/bin/python ]; then continue; fi
        case $(cat "$stamp") in
            "$(fingerprint)
mic") return 0 ;;
            "$(fingerprint)
no mic") if ! has_portaudio; then return 0; fi ;;
        esac
    done
    return 1
}

if is_current; then exit 0; fi

make_venv
rm -f "$venv/.stamp-$profile"
microphone="no mic"
if prepare_microphone; then microphone=mic; fi
prepare_broker
prepare_sound_server
prepare_browser
prepare_ffmpeg

case $profile in
    runtime) note "installing moodring into $venv (about 460 MB; once)" ;;
    dev) note "installing moodring, PyTorch for the CPU and the test tools into $venv (about 2 GB; once, some minutes)" ;;
esac
if [ "$microphone" = mic ] && ! pip_install "$(target "$extras,mic")"; then
    note "PyAudio or another package could not be installed (message above): trying without the microphone"
    microphone="no mic"
    pip_install "$(target "$extras")" || fail "pip could not install moodring (message above); check the network"
elif [ "$microphone" = "no mic" ]; then
    pip_install "$(target "$extras")" || fail "pip could not install moodring (message above); check the network"
fi
{ fingerprint; printf '%s\n' "$microphone"; } >"$venv/.stamp-$profile"
