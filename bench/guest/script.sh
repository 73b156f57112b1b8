# every workload once; the data for the last two is made of the benchmark's own program
for name in fork_exec system_calls page_faults memory_copy floating_point; do
    /bin/work $name
done
i=0
while [ $i -lt 10 ]; do cat /bin/work; i=$((i+1)); done > /tmp/data
/bin/work time shell_loop sh -c 'k=0; while [ $k -lt 100000 ]; do k=$((k+1)); done'
/bin/work time sha256 sh -c 'for i in 1 2 3; do sha256sum /tmp/data; done > /tmp/sums'
/bin/work time gzip sh -c 'gzip -c /tmp/data | sha256sum >> /tmp/sums'
echo "BENCH results 0 $(sha256sum < /tmp/sums | cut -c1-16)"
