#!/bin/sh
# Makes this checkout ready: .venv with the project and its tools, and the Debian packages that a target needs.
#
#   tools/setup.sh venv             the virtual environment only
#   tools/setup.sh system WHAT...   Debian packages for: lab, peer, vm, rtl, formal (see below); as root installs, else says
#
# Says nothing when there is nothing to do. PYTHON=... chooses the interpreter (3.11 or newer).
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv
stamp=$venv/.esplanade-setup

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }

python_is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python_is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer"
        command -v "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if python_is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer found. Debian 12, 13 and Ubuntu 24.04 have it: apt-get install python3 python3-venv; or set PYTHON=/path/to/python3"
}

apt_install() {
    # Services must not start behind the user's back: charon would take ports 500 and 4500 of this machine.
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made_policy=yes
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        trap 'exit 1' HUP INT TERM
    fi
    say "setup: apt-get install $*"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$log" 2>&1; then
        # The package lists of a fresh machine or container are often missing or old.
        if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } </dev/null >"$log" 2>&1; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            fail "apt-get could not install: $*"
        fi
    fi
    rm -f "$log"
    if [ -n "$made_policy" ]; then
        rm -f $policy
        trap - EXIT HUP INT TERM
    fi
}

# What the stamp has to say for the virtual environment to be as pyproject.toml wants it, and where it is.
wanted_stamp() {
    "$venv/bin/python" -c '
import hashlib, pathlib, sys
data = pathlib.Path(sys.argv[1]).read_bytes() + sys.version.encode() + sys.argv[2].encode()
print(hashlib.sha256(data).hexdigest())' "$root/pyproject.toml" "$venv" 2>/dev/null || echo none
}

same_version() { # another interpreter than the environment's was asked for by name
    [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -V 2>&1)" = "$("$venv/bin/python" -V 2>&1)" ]
}

make_venv() {
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted_stamp)" ] && same_version; then
        return
    fi
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        case $python in
            /usr/bin/*) ;;
            *) fail "$python has no venv module (ensurepip is missing); choose another with PYTHON=" ;;
        esac
        [ "$(id -u)" = 0 ] || fail "the Debian package $version is missing: sudo apt-get install $version"
        apt_install "$version"
    fi
    # A virtual environment of another interpreter, or of a checkout that was moved, is of no use.
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null || ! python_is_new_enough "$venv/bin/python" || ! same_version; then
        rm -rf "$venv"
        say "setup: making .venv with $python"
        "$python" -m venv "$venv"
    fi
    say "setup: installing the project and its development tools into .venv"
    if ! (cd "$root" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --editable '.[dev,rtl]') </dev/null; then
        fail "pip could not install what pyproject.toml asks for (is the package index reachable?)"
    fi
    wanted_stamp >"$stamp"
}

missing=
need_command() { # command package
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need_plugin() { # plugin package
    [ -e "/usr/lib/ipsec/plugins/libstrongswan-$1.so" ] || missing="$missing $2"
}

install_system() {
    for what in "$@"; do
        case $what in
            lab)
                need_command ip iproute2
                need_command nft nftables
                need_command nsenter util-linux
                need_command mount mount
                need_command iperf3 iperf3
                need_command ping iputils-ping
                ;;
            peer)
                need_command charon-systemd charon-systemd
                need_command swanctl strongswan-swanctl
                need_plugin kernel-libipsec libcharon-extra-plugins
                need_plugin openssl libstrongswan-standard-plugins
                need_plugin chapoly libstrongswan-extra-plugins
                need_plugin curve25519 libstrongswan-extra-plugins
                ;;
            vm)
                [ "$(uname -m)" = x86_64 ] || continue # tests/vm says so
                need_command qemu-system-x86_64 qemu-system-x86
                need_command mmdebstrap mmdebstrap
                need_command mkfs.ext4 e2fsprogs
                ;;
            rtl) # Verilator makes C++ of the RTL
                need_command g++ g++
                need_command perl perl
                ;;
            formal) # IC3; YoWASP's Yosys comes without its ABC
                need_command berkeley-abc berkeley-abc
                ;;
            *) fail "unknown group of packages: $what" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086 # a list of words
    packages=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
    if ! command -v apt-get >/dev/null 2>&1; then
        say "setup: missing, to be installed by this system's own means (names are Debian's): $packages"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        say "setup: missing Debian packages, and not root: sudo apt-get install $packages"
        say "setup: going on without; what needs them is skipped and says so"
        return 0
    fi
    charon_was_here=$(command -v charon-systemd || true)
    # shellcheck disable=SC2086
    apt_install $packages
    # Installed for the tests only: it must not start at the next boot either.
    if [ -z "$charon_was_here" ] && command -v charon-systemd >/dev/null 2>&1 && command -v systemctl >/dev/null 2>&1; then
        systemctl disable --quiet strongswan.service >/dev/null 2>&1 || true
    fi
}

case ${1:-} in
    venv) make_venv ;;
    system) shift; install_system "$@" ;;
    *) fail "usage: tools/setup.sh venv | system lab|peer|vm|rtl|formal..." ;;
esac
