# Runs in the guest: fio's requests to a disk without an end, as fio.rw=, fio.bs= and fio.iodepth= on the kernel
# command line say.
options=
for word in $(cat /proc/cmdline); do
    case $word in fio.*) options="$options --${word#fio.}" ;; esac
done
fio --name=endless --filename=/dev/sda --direct=1 --ioengine=libaio --norandommap --eta=never --time_based \
    --runtime=3600 --exec_prerun="sh -c 'echo BEGIN endless >/dev/console'" $options
