"""The first process of the demo guest, and the modules that it loads."""

from __future__ import annotations

MODULES = (
    "hv_vmbus",
    "hv_utils",
    "hv_balloon",
    "scsi_transport_fc",
    "hv_storvsc",
    "sd_mod",
    "sr_mod",
    "hv_netvsc",
    "af_packet",
    "hyperv_keyboard",
    "hid_hyperv",
    "hid_generic",
    "evdev",
    "hyperv_drm",
    "hyperv_fb",
    "pci_hyperv",
    "pci_hyperv_intf",
    "hv_sock",
    "uio_hv_generic",
)
"""Every driver of a Hyper-V device in Linux, and those that make their disks and inputs usable."""

ROOT_MODULES = ("hv_vmbus", "scsi_transport_fc", "hv_storvsc", "sd_mod", "crc32c_generic", "ext4")
"""What it takes to mount a root file system; from there udev loads what the bus offers."""

ORDER = "lib/modules/order"
ROOT_ORDER = "lib/modules/root"
"""Lists in the initrd of what to load, in order: with a shell in it, and to mount a root. Each line has a
module's name and those of the modules that it needs."""

STARTED = "ringminus guest: init is running"
"""The first line that the guest's user space prints."""

INIT = (
    r"""#!/bin/busybox sh
# The first process. Words on the kernel command line steer it:
#   root=DEVICE               go on with the system on this disk: /dev/sda, LABEL=… or UUID=…
#   rootfstype=, rootflags=, ro, init=
#                             as the kernel has them, but that it mounts the root writable unless told ro
#   ringminus.script=BASE64   run this script instead of the shell, and end; with a root, it is for the root
#   ringminus.run=PATH        the same with a script that is in the initrd, or in the root
#   ringminus.modules=no      load no modules
#   ringminus.size=ROWSxCOLS  the size of the terminal behind the console
#   ringminus.end=reboot      restart in the end instead of powering off
echo """
    f'"{STARTED}"'
    r"""
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox --install -s
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
ip link set lo up
[ -e /etc/hosts ] || echo "127.0.0.1 localhost" >/etc/hosts

script= run= modules=yes size= end=poweroff
root= rootfstype= rootflags= access=rw init=/sbin/init
for word in $(cat /proc/cmdline); do
    case $word in
        ringminus.script=*) script=${word#*=} ;;
        ringminus.run=*) run=${word#*=} ;;
        ringminus.modules=*) modules=${word#*=} ;;
        ringminus.size=*x*) size=${word#*=} ;;
        ringminus.end=reboot) end=reboot ;;
        root=*) root=${word#*=} ;;
        rootfstype=*) rootfstype=${word#*=} ;;
        rootflags=*) rootflags=${word#*=} ;;
        init=*) init=${word#*=} ;;
        ro | rw) access=$word ;;
    esac
done

# load what a list names; a module is not tried when one that it needs is not there
load_modules() {
    loaded= failed= absent= why=
    if [ -d /sys/bus/acpi/devices ] && ! ls /sys/bus/acpi/devices | grep -qi '^vmbus:'; then
        why="no VMBus device in the ACPI tables" absent=" hv_vmbus"
    fi
    while read -r name needs; do
        for module in $name $needs; do
            case "$absent " in
                *" $module "*)
                    absent="$absent $name"
                    continue 2
                    ;;
            esac
        done
        if insmod "/lib/modules/$name.ko" 2>/tmp/insmod; then
            loaded="$loaded $name"
            continue
        fi
        absent="$absent $name"
        if [ "$name" = hv_vmbus ]; then
            why="hv_vmbus found no bus, and others need it"
        else
            failed="$failed $name"
        fi
    done < "$1"
    modules="${loaded:- none}${why:+ ($why)}${failed:+ (failed:$failed)}"
}

if [ "$modules" != yes ]; then
    modules=" none (as asked)"
elif [ -n "$root" ]; then
    load_modules /lib/modules/root
else
    load_modules /lib/modules/order
fi

hypervisor=$(dmesg | sed -n 's/.*\(Hypervisor detected: .*\)/\1/p' | head -n 1)
clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)
memory=$(sed -n 's/^MemTotal: *//p' /proc/meminfo)
echo "  kernel       Linux $(uname -r), $(grep -c ^processor /proc/cpuinfo) processor(s), $memory"
echo "  hypervisor   ${hypervisor:-none that this kernel knows}"
echo "  clocksource  ${clock:-unknown}"
echo "  modules     $modules"

# the root's device, once it is there: the bus offers it, and then the disk is probed
find_root() {
    case $root in
        LABEL=* | UUID=*) device=$(findfs "$root" 2>/dev/null) ;;
        *) device=$root ;;
    esac
    [ -b "$device" ]
}

# 20 seconds by the guest's clock
wait_for_root() {
    tries=200
    until find_root; do
        tries=$((tries - 1))
        if [ $tries = 0 ]; then
            disks=$(ls /sys/class/block | tr '\n' ' ')
            why="there is no $root; block devices here: ${disks:-none}"
            return 1
        fi
        usleep 100000
    done
}

mount_root() {
    case $root in
        /dev/* | LABEL=* | UUID=*) ;;
        *)
            why="root=$root is not understood: write /dev/sda, LABEL=NAME or UUID=ID"
            return 1
            ;;
    esac
    wait_for_root || return
    mkdir -p /newroot
    if ! mount ${rootfstype:+-t "$rootfstype"} -o "$access${rootflags:+,$rootflags}" "$device" /newroot \
        2>/tmp/mount; then
        why=$(cat /tmp/mount)
        return 1
    fi
    # a link there may be absolute
    if [ ! -x "/newroot$init" ] && [ ! -L "/newroot$init" ]; then
        umount /newroot
        why="there is no $init on $device: name another with init="
        return 1
    fi
}

if [ -n "$root" ]; then
    if mount_root; then
        echo "  root         $device"
        umount /tmp
        for directory in dev proc sys; do
            mount --move /$directory /newroot/$directory
        done
        exec switch_root -c /dev/console /newroot "$init" "$@"
    fi
    echo "ringminus guest: no root: $why"
    # what a script expects is in the root
    [ -z "$script$run" ] || $end -f
fi

if [ -n "$script" ]; then
    run=/tmp/script
    echo "$script" | base64 -d > $run
fi
if [ -n "$run" ]; then
    sh "$run"
    echo "ringminus guest: the script ended with status $?"
else
    [ -n "$size" ] && stty rows "${size%x*}" cols "${size#*x}"
    echo "This is a shell in the guest; \`exit\` powers it off."
    cd /root
    setsid cttyhack sh
fi
sync
$end -f
"""
)

UDHCPC = r"""#!/bin/sh
# What busybox's udhcpc has done with a DHCP server's answer.
case $1 in
    deconfig)
        ip -4 addr flush dev "$interface"
        ip link set "$interface" up
        ;;
    bound | renew)
        # an address that stays is left alone: connections would end with it
        if ! ip -4 addr show dev "$interface" | grep -q " inet $ip/$mask "; then
            ip -4 addr flush dev "$interface"
            ip addr add "$ip/$mask" ${broadcast:+broadcast "$broadcast"} dev "$interface"
        fi
        [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
        if [ -n "$router" ]; then
            ip route replace default via "${router%% *}" dev "$interface"
        fi
        {
            [ -z "$domain" ] || echo "search $domain"
            for server in $dns; do echo "nameserver $server"; done
        } >/etc/resolv.conf
        ;;
esac
"""
UDHCPC_PATH = "etc/udhcpc/default.script"
