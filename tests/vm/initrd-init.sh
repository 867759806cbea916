#!/bin/busybox sh
# In the initial RAM disk: loads what the kernel lacks for its disk, and goes on with guest-init.sh from the tree's disk.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox insmod /virtio_blk.ko
/bin/busybox mount -t ext4 -o noatime /dev/vda /root
/bin/busybox mount -t devtmpfs dev /root/dev
/bin/busybox mount -t tmpfs work /root/srv
/bin/busybox tar -x -f /dev/vdb -C /root/srv
exec /bin/busybox switch_root /root /bin/sh /srv/tests/vm/guest-init.sh
