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

STARTED = "ringminus guest: init is running"
"""The first line that the guest's user space prints."""

INIT = (
    r"""#!/bin/busybox sh
# The first process. Words on the kernel command line steer it:
#   ringminus.script=BASE64   run this script instead of the shell, and end
#   ringminus.run=PATH        the same with a script that is in the initrd
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

script= run= modules=yes size= end=poweroff
for word in $(cat /proc/cmdline); do
    case $word in
        ringminus.script=*) script=${word#*=} ;;
        ringminus.run=*) run=${word#*=} ;;
        ringminus.modules=*) modules=${word#*=} ;;
        ringminus.size=*x*) size=${word#*=} ;;
        ringminus.end=reboot) end=reboot ;;
    esac
done

load_modules() {
    loaded= failed=
    while read -r name; do
        if insmod "/lib/modules/$name.ko" 2>/tmp/insmod; then
            loaded="$loaded $name"
        elif [ "$name" = hv_vmbus ]; then
            why="hv_vmbus found no bus, and the others need it"
            return
        else
            failed="$failed $name"
        fi
    done < /lib/modules/order
}

if [ "$modules" = yes ]; then
    why=
    if [ -d /sys/bus/acpi/devices ] && ! ls /sys/bus/acpi/devices | grep -qi '^vmbus:'; then
        why="no VMBus device in the ACPI tables"
    else
        load_modules
    fi
    modules="${loaded:- none}${why:+ ($why)}${failed:+ (failed:$failed)}"
else
    modules=" none (as asked)"
fi

hypervisor=$(dmesg | sed -n 's/.*\(Hypervisor detected: .*\)/\1/p' | head -n 1)
clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)
memory=$(sed -n 's/^MemTotal: *//p' /proc/meminfo)
echo "  kernel       Linux $(uname -r), $(grep -c ^processor /proc/cpuinfo) processor(s), $memory"
echo "  hypervisor   ${hypervisor:-none that this kernel knows}"
echo "  clocksource  ${clock:-unknown}"
echo "  modules     $modules"

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
