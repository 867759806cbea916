#!/bin/sh
# In the disk's own root, while it is built: what Debian's kernel lacks is made from the source of that kernel.
# netdevsim as it is and lifted (/opt/netdevsim/VARIANT), the kernel's own tests (/opt/selftests). What made it is removed.
#   from-source.sh KERNEL SOURCE PATCH PACKAGE...     the packages that stay, with what they depend on
set -eu
kernel=$1 source=$2 patch=$3
shift 3
cd "$(mktemp -d)"
tests=$source/tools/testing/selftests
tar -xf "/usr/src/$source.tar.xz" "$source/drivers/net/netdevsim" "$tests/kselftest" "$tests/net"

for variant in plain lifted; do
    cp -r "$source/drivers/net/netdevsim" $variant
    [ $variant = plain ] || patch --quiet -d $variant -p1 --fuzz=0 <"$patch"
    make -s -j"$(nproc)" -C "/lib/modules/$kernel/build" M="$PWD/$variant" \
        CONFIG_NETDEVSIM=m CONFIG_XFRM_OFFLOAD=y modules
    strip --strip-debug $variant/netdevsim.ko
    install -D -m 644 -t /opt/netdevsim/$variant $variant/netdevsim.ko
done

mkdir -p /opt/selftests
cp -r "$tests/kselftest" /opt/selftests
install -D -t /opt/selftests/net "$tests/net/lib.sh" "$tests/net/rtnetlink.sh" "$tests/net/xfrm_policy.sh"

cd /
rm -rf "$OLDPWD"
export DEBIAN_FRONTEND=noninteractive
# mmdebstrap leaves every package as one that was asked for.
apt-mark showmanual | xargs apt-mark auto >/dev/null
apt-mark manual apt "$@" >/dev/null
apt-get purge -y -qq --autoremove "linux-headers-$kernel" # by name, as apt keeps what belongs to a kernel
