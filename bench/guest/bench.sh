# Runs in the guest: the benchmarks that the kernel command line names (bench.only=a,b,c), or all.
only=all
for word in $(cat /proc/cmdline); do
    case $word in bench.only=*) only=${word#*=} ;; esac
done

wanted() {
    case ",$only," in *,all,* | *,"$1",*) return 0 ;; esac
    return 1
}

echo 3 >/proc/sys/vm/drop_caches
for name in fork_exec system_calls sha256 page_faults memory_copy floating_point; do
    if wanted $name; then work $name || exit 1; fi
done
if wanted shell_loop; then
    work time shell_loop sh -c 'k=0; while [ $k -lt 60000 ]; do k=$((k+1)); done; echo $k' || exit 1
fi
if wanted gzip; then
    work data 8 >/tmp/data
    work time gzip sh -c 'exec gzip -c </tmp/data' || exit 1
fi
