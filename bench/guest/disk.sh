# Runs in the guest: fio's requests to a disk, each piece of work between two lines for the host's clock.
# bench.only=a,b,c on the kernel command line names the pieces.
only=
for word in $(cat /proc/cmdline); do
    case $word in bench.only=*) only=${word#*=} ;; esac
done
disk=
for name in sda vda; do [ -b /dev/$name ] && disk=/dev/$name; done
[ -n "$disk" ] || { echo "there is no disk"; exit 1; }

piece() { # piece NAME REQUESTS KIB FIO-OPTIONS...: so many requests of that size
    name=$1 requests=$2 size=$3
    shift 3
    case ",$only," in *",$name,"*) ;; *) return ;; esac
    fio --name="$name" --filename=$disk --direct=1 --ioengine=libaio --norandommap --eta=never \
        --bs="${size}k" --io_size="$((requests * size))k" \
        --exec_prerun="sh -c 'echo BEGIN $name >/dev/console'" \
        --exec_postrun="sh -c 'echo BENCH $name 0 $requests >/dev/console'" \
        --output-format=terse --output=/tmp/fio "$@" || { cat /tmp/fio; exit 1; }
}
piece random_read_1 20000 4 --rw=randread --iodepth=1
piece random_read_32 20000 4 --rw=randread --iodepth=32
piece random_write_1 20000 4 --rw=randwrite --iodepth=1
piece random_write_32 20000 4 --rw=randwrite --iodepth=32
piece sequential_read 6000 1024 --rw=read --iodepth=4
piece sequential_write 6000 1024 --rw=write --iodepth=4
