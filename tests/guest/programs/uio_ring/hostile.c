// What no honest driver does. After most of it the host serves the channel no more.
#include "exchange.h"

#include <stdio.h>
#include <string.h>

enum { SETTLE = 15, FOREIGN = 2 };

static const struct request SUM_REQUEST = {.operation = SUM, .length = 64};

static void put_raw(struct device *device, struct descriptor descriptor, const void *body, uint32_t size)
{
    struct ring *ring = &device->out;
    uint32_t write = ring->control->write_index;
    uint64_t footer = (uint64_t)write << 32;
    put(ring, write, &descriptor, DESCRIPTOR);
    put(ring, write + DESCRIPTOR, body, size);
    put(ring, write + DESCRIPTOR + size, &footer, FOOTER);
    __sync_synchronize();
    ring->control->write_index = (write + DESCRIPTOR + size + FOOTER) % ring->size;
}

// A descriptor over a request that would do no harm.
static void put_descriptor(struct device *device, int type, int offset8, int length8)
{
    struct request request = {.operation = NOTHING};
    struct descriptor descriptor = {.type = type, .offset8 = offset8, .length8 = length8, .id = 3};
    put_raw(device, descriptor, &request, sizeof request);
}

static void put_direct(struct device *device, uint32_t count, uint32_t length, uint32_t offset, uint64_t pfn)
{
    struct { uint32_t reserved, count, length, offset; uint64_t pfn; } header = {0, count, length, offset, pfn};
    check(write_packet(device, GPA_DIRECT, WANTS_COMPLETION, 3, &header, sizeof header, &SUM_REQUEST,
                       sizeof SUM_REQUEST, NULL, 0), "no room");
}

static void put_transfer(struct device *device, uint32_t count, uint32_t length, uint32_t offset)
{
    struct { uint16_t pageset, owns; uint32_t count, length, offset; } header = {1, 0, count, length, offset};
    struct request request = {.operation = TRANSFER_OUT, .length = length};
    check(write_packet(device, TRANSFER_PAGES, WANTS_COMPLETION, 3, &header, sizeof header, &request,
                       sizeof request, NULL, 0), "no room");
}

static void put_request(struct device *device, struct request request)
{
    check(write_packet(device, IN_BAND, WANTS_COMPLETION, 3, NULL, 0, &request, sizeof request, NULL, 0), "no room");
}

static void add_to_write_index(struct device *device, uint32_t bytes)
{
    put_descriptor(device, IN_BAND, 2, 6);
    device->out.control->write_index += bytes;
}

static void write_index_past_end(struct device *device) { device->out.control->write_index = device->out.size; }
static void write_index_huge(struct device *device) { device->out.control->write_index = 0xFFFFFFF8; }
static void write_index_odd(struct device *device) { add_to_write_index(device, 4); }
static void half_a_descriptor(struct device *device) { device->out.control->write_index += 8; }

static void with_read_index(struct device *device, uint32_t index)
{
    put_request(device, (struct request){.operation = SEND, .count = 1});
    device->in.control->read_index = index;
}

static void read_index_past_end(struct device *device) { with_read_index(device, device->in.size); }
static void read_index_huge(struct device *device) { with_read_index(device, 0xFFFFFFF8); }
static void read_index_odd(struct device *device) { with_read_index(device, device->read ^ 4); }

static void no_header(struct device *device) { put_descriptor(device, IN_BAND, 0, 6); }
static void short_header(struct device *device) { put_descriptor(device, IN_BAND, 1, 6); }
static void header_after_end(struct device *device) { put_descriptor(device, IN_BAND, 7, 6); }
static void nothing_at_all(struct device *device) { put_descriptor(device, IN_BAND, 0, 0); }
static void length_without_footer(struct device *device) { put_descriptor(device, IN_BAND, 2, 7); }
static void length_past_write(struct device *device) { put_descriptor(device, IN_BAND, 2, 0xFFFF); }
static void type_unknown(struct device *device) { put_descriptor(device, 0xFFFF, 2, 6); }
static void type_zero(struct device *device) { put_descriptor(device, 0, 2, 6); }
static void type_cancel(struct device *device) { put_descriptor(device, 10, 2, 6); }
static void type_gpadl(struct device *device) { put_descriptor(device, 4, 2, 6); }

static void direct_without_header(struct device *device) { put_descriptor(device, GPA_DIRECT, 2, 6); }
static void direct_no_ranges(struct device *device) { put_direct(device, 0, 64, 0, 0x1000); }
static void direct_many_ranges(struct device *device) { put_direct(device, ~0u, 64, 0, 0x1000); }
static void direct_two_ranges_in_one(struct device *device) { put_direct(device, 2, 64, 0, 0x1000); }
static void direct_long(struct device *device) { put_direct(device, 1, ~0u, 0, 0x1000); }
static void direct_two_pages_in_one(struct device *device) { put_direct(device, 1, 64, PAGE - 63, 0x1000); }
static void direct_offset(struct device *device) { put_direct(device, 1, 0, PAGE, 0x1000); }
static void direct_outside_ram(struct device *device) { put_direct(device, 1, 64, 0, 0x4000000); }
static void direct_in_apic(struct device *device) { put_direct(device, 1, 64, 0, 0xFEE00); }
static void direct_huge_page(struct device *device) { put_direct(device, 1, 64, 0, ~0ull); }
static void direct_wrapping_page(struct device *device) { put_direct(device, 1, 64, 0, 1ull << 52); }

static void transfer_without_header(struct device *device) { put_descriptor(device, TRANSFER_PAGES, 2, 6); }
static void transfer_many_ranges(struct device *device) { put_transfer(device, ~0u, 64, 0); }
static void transfer_outside(struct device *device) { put_transfer(device, 1, 64, device->send_size - 63); }
static void transfer_wrapping(struct device *device) { put_transfer(device, 1, 64, 0xFFFFFFE0); }

static void unknown_operation(struct device *device) { put_request(device, (struct request){.operation = 99}); }

static void unknown_gpadl(struct device *device)
{
    put_request(device, (struct request){.operation = HELLO, .count = 0xDEAD, .smallest = device->send_handle});
}

// The next device's; handles count up, two for each.
static void foreign_gpadl(struct device *device)
{
    put_request(device, (struct request){.operation = HELLO, .count = device->receive_handle + FOREIGN,
                                         .smallest = device->send_handle});
}

static void unasked_completion(struct device *device)
{
    uint32_t sum = 0;
    check(write_packet(device, COMPLETION, 0, 0xABCDEF, NULL, 0, &sum, sizeof sum, NULL, 0), "no room");
}

// These are allowed, or at least do no harm to others: the channel lives.

static void masks_junk(struct device *device)
{
    device->in.control->interrupt_mask = 0xDEADBEEF;
    device->out.control->interrupt_mask = 0xDEADBEEF;
    ring_bell(device);
    pause_ms(SETTLE);
    device->in.control->interrupt_mask = 0;
}

static void pending_junk(struct device *device)
{
    device->out.control->pending_send_size = 0xFFFFFFFF;
    device->in.control->pending_send_size = 0xFFFFFFFF;
}

static void index_of_the_host(struct device *device)
{
    put_descriptor(device, IN_BAND, 2, 6);
    device->out.control->read_index = 0xFFFFFFFF;
}

static void many_bells(struct device *device)
{
    for (int i = 0; i < 20000; i++)
        ring_bell(device);
}

static void all_bells(struct device *device)
{
    volatile uint32_t *groups = (volatile uint32_t *)((uintptr_t)device->bell / PAGE * PAGE + 8);
    for (int i = 0; i < 4; i++)
        groups[2 * i] = 0xFFFFFFFF;
}

static const struct {
    const char *name;
    bool fatal;
    void (*act)(struct device *);
} CASES[] = {
#define FATAL(name) {#name, true, name}
#define HARMLESS(name) {#name, false, name}
    FATAL(write_index_past_end), FATAL(write_index_huge), FATAL(write_index_odd), FATAL(half_a_descriptor),
    FATAL(read_index_past_end), FATAL(read_index_huge), FATAL(read_index_odd),
    FATAL(no_header), FATAL(short_header), FATAL(header_after_end), FATAL(nothing_at_all),
    FATAL(length_without_footer), FATAL(length_past_write),
    FATAL(type_unknown), FATAL(type_zero), FATAL(type_cancel), FATAL(type_gpadl),
    FATAL(direct_without_header), FATAL(direct_no_ranges), FATAL(direct_many_ranges),
    FATAL(direct_two_ranges_in_one), FATAL(direct_long), FATAL(direct_two_pages_in_one), FATAL(direct_offset),
    FATAL(direct_outside_ram), FATAL(direct_in_apic), FATAL(direct_huge_page), FATAL(direct_wrapping_page),
    FATAL(transfer_without_header), FATAL(transfer_many_ranges), FATAL(transfer_outside), FATAL(transfer_wrapping),
    FATAL(unknown_operation), FATAL(unknown_gpadl), FATAL(foreign_gpadl), FATAL(unasked_completion),
    HARMLESS(masks_junk), HARMLESS(pending_junk), HARMLESS(index_of_the_host), HARMLESS(many_bells),
    HARMLESS(all_bells),
};

void list_hostile(void)
{
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        printf("%s %s\n", CASES[i].fatal ? "fatal" : "harmless", CASES[i].name);
}

static void check_dead(struct device *device)
{
    struct control *out = device->out.control;
    uint32_t taken = out->read_index, shown = device->in.control->write_index;
    out->write_index = taken;
    put_request(device, (struct request){.operation = ECHO});
    ring_bell(device);
    pause_ms(SETTLE);
    check(out->read_index == taken, "the host took another packet");
    check(device->in.control->write_index == shown, "the host sent another packet");
}

bool run_hostile(struct device *device, const char *name)
{
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        if (strcmp(CASES[i].name, name) == 0) {
            CASES[i].act(device);
            ring_bell(device);
            pause_ms(SETTLE);
            if (CASES[i].fatal)
                check_dead(device);
            else
                say_hello(device);
            printf("%s: %s\n", name, CASES[i].fatal ? "dead" : "alive");
            return true;
        }
    return false;
}
