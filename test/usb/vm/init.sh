#!/bin/sh
# The first process of the virtual machine, run by busybox from the initrd: loads the modules, makes a root of the
# host's files that takes writes and forgets them, and runs /mnt/command there. /mnt is a directory of the host.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
while read -r module; do $bb insmod "/modules/$module"; done </modules/order

$bb mkdir -p /host /memory /root
$bb mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host || $bb poweroff -f
$bb mount -t tmpfs memory /memory
$bb mkdir /memory/upper /memory/work
$bb mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root || $bb poweroff -f
for dir in proc sys dev; do $bb mount --move "/$dir" "/root/$dir"; done
$bb mkdir -p /root/dev/pts /root/dev/shm
$bb mount -t devpts -o ptmxmode=0666 devpts /root/dev/pts
$bb mount -t tmpfs run /root/run
$bb mount -t tmpfs tmp /root/tmp
$bb mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none exchange /root/mnt || $bb poweroff -f
$bb stty -F /root/dev/ttyS0 -opost
$bb ifconfig lo 127.0.0.1 up
$bb chroot /root /bin/sh /mnt/command
echo $? >/root/mnt/code
$bb sync
$bb poweroff -f
