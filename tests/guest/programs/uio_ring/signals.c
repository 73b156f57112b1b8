// Counts interrupts while both sides write, read and mask; who calls knows how many there must be.
#include "exchange.h"

#include <stdio.h>
#include <string.h>

enum { SETTLE = 30, BATCH = 50 };

static unsigned long before;

static void begin(struct device *device)
{
    pause_ms(SETTLE);
    before = channel_counter(device, "interrupts");
}

static void end(struct device *device, const char *name)
{
    pause_ms(SETTLE);
    printf("signals %s %lu\n", name, channel_counter(device, "interrupts") - before);
}

static void ask_for(struct device *device, uint32_t count, uint32_t size)
{
    struct request request = {.operation = SEND, .count = count, .smallest = size, .largest = size};
    send_packet(device, IN_BAND, WANTS_COMPLETION, 5, &request, sizeof request);
}

// Takes all that comes up to a completion; gives how many packets there were.
static uint32_t drain(struct device *device)
{
    uint32_t count = 0;
    for (;;) {
        while (read_packet(device)) {
            if (device->packet.descriptor.type == COMPLETION) {
                finish_reading(device);
                return count;
            }
            count++;
        }
        finish_reading(device);
        pause_ms(1);
    }
}

static uint32_t fill_silently(struct device *device, uint32_t leave)
{
    static uint8_t bytes[1000];
    struct request request = {.operation = NOTHING};
    uint32_t count = 0;
    while (room(&device->out) > leave + packet_size(0, sizeof request + sizeof bytes)) {
        check(write_packet(device, IN_BAND, 0, 0, NULL, 0, &request, sizeof request, bytes, sizeof bytes), "room");
        count++;
    }
    return count;
}

// The guest waits for room of `pending` bytes with `count_free` free; the host takes all and may have to tell.
static void room_for(struct device *device, uint32_t leave, uint32_t pending, const char *name)
{
    begin(device);
    check(fill_silently(device, leave) > 0, "the ring is full");
    device->out.control->pending_send_size = pending;
    ring_bell(device);
    end(device, name);
    check(filled(&device->out) == 0, "the host has not taken all");
    device->out.control->pending_send_size = 0;
}

static void blocked_host(struct device *device)
{
    struct control *in = device->in.control;
    in->interrupt_mask = 1;
    begin(device);
    ask_for(device, 300, 1000);
    pause_ms(SETTLE);
    uint32_t stuck = filled(&device->in);
    printf("blocked pending %u free %u masked %u\n", in->pending_send_size, room(&device->in),
           device->out.control->interrupt_mask);
    pause_ms(SETTLE);
    check(filled(&device->in) == stuck, "the host went on writing");
    unsigned long bells = device->bells;
    uint32_t count = drain(device);
    printf("blocked packets %u bells %lu pending %u masked %u\n", count, device->bells - bells,
           in->pending_send_size, device->out.control->interrupt_mask);
    end(device, "blocked");
}

void run_signals(struct device *device)
{
    struct control *in = device->in.control;
    in->interrupt_mask = 1;
    begin(device);
    ask_for(device, BATCH, 100);
    end(device, "masked");
    check(filled(&device->in) > BATCH * 100, "no packets");

    in->interrupt_mask = 0;
    begin(device);
    ask_for(device, BATCH, 100);
    end(device, "unread");
    check(drain(device) == BATCH && drain(device) == BATCH, "packets");

    begin(device);
    ask_for(device, BATCH, 100);
    end(device, "batch");
    check(drain(device) == BATCH, "packets");

    begin(device);
    for (int i = 0; i < 20; i++) {
        ask_for(device, 1, 100);
        check(drain(device) == 1, "packets");
    }
    end(device, "singles");

    room_for(device, 4000, 30000, "room-wanted");
    room_for(device, 4000, 0, "room-unwanted");
    room_for(device, 40000, 20000, "room-there-before");
    blocked_host(device);
}
