// Drives the device of tests/support/exchange.py through /dev/uioN.
//
//   uio_ring DEVICE echo|direct|receive|asked|transfer|transfer-out COUNT SMALLEST LARGEST
//   uio_ring DEVICE signals|until-rescinded
//   uio_ring DEVICE hostile CASE
//   uio_ring - hostile-cases
//
// DEVICE is /dev/uioN, or /dev/uioN:M for its sub-channel M.
#include "exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct device device;

static const struct {
    const char *name;
    void (*run)(struct device *, uint32_t, uint32_t, uint32_t);
} TRAFFIC[] = {
    {"echo", run_echo},
    {"direct", run_direct},
    {"receive", run_receive},
    {"asked", run_asked},
    {"transfer", run_transfer},
    {"transfer-out", run_transfer_out},
};

static bool run_traffic(char **words)
{
    for (size_t i = 0; i < sizeof TRAFFIC / sizeof *TRAFFIC; i++)
        if (strcmp(TRAFFIC[i].name, words[0]) == 0) {
            TRAFFIC[i].run(&device, atoi(words[1]), atoi(words[2]), atoi(words[3]));
            printf("interrupts %lu bells %lu packets %lu\n", channel_counter(&device, "interrupts"),
                   device.bells, device.packets);
            return true;
        }
    return false;
}

static bool run_other(int count, char **words)
{
    if (strcmp(words[0], "signals") == 0)
        run_signals(&device);
    else if (strcmp(words[0], "until-rescinded") == 0)
        run_until_rescinded(&device);
    else
        return count == 2 && strcmp(words[0], "hostile") == 0 && run_hostile(&device, words[1]);
    return true;
}

int main(int count, char **words)
{
    if (count == 3 && strcmp(words[2], "hostile-cases") == 0) {
        list_hostile();
        return 0;
    }
    if (count >= 3) {
        open_device(&device, words[1]);
        say_hello(&device);
        if (count == 6 ? run_traffic(words + 2) : run_other(count - 2, words + 2))
            return 0;
    }
    fprintf(stderr, "see the head of main.c for the words\n");
    return 2;
}
