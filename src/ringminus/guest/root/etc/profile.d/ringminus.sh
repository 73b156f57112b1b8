# The console's terminal: its size, and at the first login what the bus offers.
if [ "$(tty)" = /dev/ttyS0 ]; then
    for word in $(cat /proc/cmdline); do
        case $word in
            ringminus.size=*x*)
                word=${word#*=}
                stty rows "${word%x*}" cols "${word#*x}"
                ;;
        esac
    done
    unset word
    if [ ! -e /run/ringminus-greeted ]; then
        : >/run/ringminus-greeted
        lsvmbus
        echo "This is root's shell in the guest; \`poweroff\` ends it."
    fi
fi
