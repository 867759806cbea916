#!/bin/sh
# Runs a command where network namespaces can be made: as it is for root, else as root of a new user namespace.
# Where the kernel allows neither, says so and runs the command anyway: tests that need a network skip themselves.
set -eu

if [ "$(id -u)" = 0 ]; then
    exec "$@"
fi

# Some systems let the namespace be made and then deny every privilege in it (Ubuntu 24.04's AppArmor), so try one.
if unshare --user --map-root-user --net --mount sh -c 'PATH=$PATH:/usr/sbin:/sbin ip link set dev lo up' 2>/dev/null; then
    echo "not root: running as root of a user namespace of its own" >&2
    exec unshare --user --map-root-user --net --mount sh -c '
        PATH=$PATH:/usr/sbin:/sbin
        ip link set dev lo up
        mount -t tmpfs tmpfs /run
        exec "$@"' sh "$@"
fi

cat >&2 <<'TEXT'
not root, and this kernel does not let users make network namespaces: nothing that needs a network can run.
  Run it as root, or allow it:  sysctl kernel.unprivileged_userns_clone=1                  (Debian)
                                sysctl kernel.apparmor_restrict_unprivileged_userns=0      (Ubuntu 24.04)
TEXT
exec "$@"
