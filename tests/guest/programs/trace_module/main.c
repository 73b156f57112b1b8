// trace_module SYSTEM EVENT: traces the events of SYSTEM as soon as there is EVENT, which a module brings.
//
// A module's events are there before its first function runs. Who looks for them often, with a real-time
// priority, in a kernel that can be preempted (preempt=full), waits for the lock that is held while they
// are made, and has it before that function runs.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define MOMENT 200 // microseconds

int main(int count, char **words)
{
    if (count != 3) {
        fprintf(stderr, "trace_module SYSTEM EVENT\n");
        return 2;
    }
    char event[256], enable[256];
    snprintf(event, sizeof(event), "/sys/kernel/tracing/events/%s/%s", words[1], words[2]);
    snprintf(enable, sizeof(enable), "/sys/kernel/tracing/events/%s/enable", words[1]);
    struct sched_param priority = {.sched_priority = 50};
    if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0) {
        perror("sched_setscheduler");
        return 1;
    }
    if (daemon(1, 1) != 0) { // from here on it looks, and who has started it goes on
        perror("daemon");
        return 1;
    }
    while (access(event, F_OK) != 0)
        usleep(MOMENT);
    int file = open(enable, O_WRONLY);
    if (file < 0 || write(file, "1", 1) != 1) {
        perror(enable);
        return 1;
    }
    return 0;
}
