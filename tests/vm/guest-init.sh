#!/bin/sh
# The machine's first process: runs what the third disk's command says, and leaves results on that disk.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/srv:/opt/python
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /dev/shm /dev/pts /run/results
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
modprobe tun # its device file is there when the module is
ip link set dev lo up
hostname esplanade
cd /srv
export ESPLANADE_VM=/run/results
read -r up _ </proc/uptime
echo "booted in $up s: $(uname -r)"
sh /srv/.vm-command >/run/results/output 2>&1 </dev/null
echo $? >/run/results/status
dmesg >/run/results/dmesg
read -r up _ </proc/uptime
echo "done after $up s"
tar -c -f /dev/vdc -C /run/results .
sync
echo o >/proc/sysrq-trigger
sleep 60
