#!/bin/sh
# In the disk's own root, while it is built: what Debian's kernel lacks is made from the source of that kernel.
# What made it is removed.
#   from-source.sh KERNEL "WHAT..." PACKAGE...     the packages that stay, with what they depend on
# WHAT is a function of those below.
set -eu
kernel=$1 what=$2
shift 2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
archive=$(echo /usr/src/linux-source-*.tar.xz)
source=$(basename "$archive" .tar.xz)
cd "$(mktemp -d)"

module() { # FOLDER SETTING...     what is in a folder becomes a module
    folder=$1
    shift
    make -s -j"$(nproc)" -C "/lib/modules/$kernel/build" M="$PWD/$folder" "$@" modules
    strip --strip-debug "$folder"/*.ko
}

netdevsim() { # as it is and lifted: /opt/netdevsim/VARIANT
    tar -xf "$archive" "$source/drivers/net/netdevsim"
    for variant in plain lifted; do
        cp -r "$source/drivers/net/netdevsim" $variant
        [ $variant = plain ] || patch --quiet -d $variant -p1 --fuzz=0 <"$here/netdevsim-lifted.patch"
        module $variant CONFIG_NETDEVSIM=m CONFIG_XFRM_OFFLOAD=y
        install -D -m 644 -t /opt/netdevsim/$variant $variant/netdevsim.ko
    done
}

selftests() { # the kernel's own: /opt/selftests
    tests=$source/tools/testing/selftests
    tar -xf "$archive" "$tests/kselftest" "$tests/net"
    mkdir -p /opt/selftests
    cp -r "$tests/kselftest" /opt/selftests
    install -D -t /opt/selftests/net "$tests/net/lib.sh" "$tests/net/rtnetlink.sh" "$tests/net/xfrm_policy.sh"
}

iptfs() { # where the kernel finds it when an SA has that mode: it lacks but this module (CONFIG_XFRM_IPTFS)
    tar -xf "$archive" "$source/net/xfrm"
    # shellcheck disable=SC2016 # make's variable: trace points are included by a path from there
    printf '%s\n' 'obj-m := xfrm_iptfs.o' 'ccflags-y := -I$(src)' >"$source/net/xfrm/Makefile"
    module "$source/net/xfrm"
    install -D -m 644 -t "/lib/modules/$kernel/updates" "$source/net/xfrm/xfrm_iptfs.ko"
    depmod "$kernel"
}

for one in $what; do
    $one
done

cd /
rm -rf "$OLDPWD"
export DEBIAN_FRONTEND=noninteractive
# mmdebstrap leaves every package as one that was asked for.
apt-mark showmanual | xargs apt-mark auto >/dev/null
apt-mark manual apt "$@" >/dev/null
apt-get purge -y -qq --autoremove "linux-headers-$kernel" # by name, as apt keeps what belongs to a kernel
