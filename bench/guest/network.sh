# Runs in the guest: what it moves over its network, each piece of work between two lines for the host's clock.
# bench.only=a,b,c on the kernel command line names the pieces, bench.iperf3=PORT and bench.echo=PORT say where
# the host listens.
only= port= echo=
for word in $(cat /proc/cmdline); do
    case $word in
        bench.only=*) only=${word#*=} ;;
        bench.iperf3=*) port=${word#*=} ;;
        bench.echo=*) echo=${word#*=} ;;
    esac
done
host=10.0.2.2
udhcpc -i eth0 -f -q -n >/tmp/udhcpc 2>&1 || { cat /tmp/udhcpc; exit 1; }

piece() { # piece NAME AMOUNT COMMAND...
    name=$1 amount=$2
    shift 2
    case ",$only," in *",$name,"*) ;; *) return ;; esac
    echo "BEGIN $name"
    "$@" >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }
    echo "BENCH $name 0 $amount"
}
stream() { # stream NAME MIB IPERF3-OPTIONS...
    name=$1 size=$2
    shift 2
    piece "$name" "$size" iperf3 -c $host -p "$port" -n "${size}M" "$@"
}
stream guest_to_host 256
stream host_to_guest 256 -R
piece round_trips 20000 round_trips $host "$echo" 20000
