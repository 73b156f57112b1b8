// Honest traffic: everything is verified on both sides.
#include "exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WINDOW = 32, SLOT_PAGES = 8, SLOT = SLOT_PAGES * PAGE, HALF = SLOT / 2, GUARD = 0xA5 };

struct range {
    uint32_t length, offset;
};

struct job {
    enum operation operation;
    uint32_t count, smallest, largest;
    uint32_t sent, answered;
    uint64_t bytes;
    uint32_t wanted;  // bytes that the next packet needs in the ring
    // Writes request `sent`; false when it has to wait.
    bool (*send)(struct device *, struct job *);
    // Looks at a packet; true when it is the answer to request `answered`.
    bool (*receive)(struct device *, struct job *);
};

static const uint64_t FIRST_ID = 0x8000000100000000ull;
static uint8_t scratch[LARGEST_PACKET];
static uint8_t *slots;

uint32_t size_between(uint64_t seed, uint32_t smallest, uint32_t largest)
{
    return smallest + (seed * 0x9E3779B97F4A7C15ull >> 40) % (largest - smallest + 1);
}

static struct request request_of(const struct job *job, uint32_t number)
{
    return (struct request){
        .operation = job->operation, .seed = 77 + number, .count = job->count, .smallest = job->smallest,
        .largest = job->largest, .length = size_between(77 + number, job->smallest, job->largest),
    };
}

void send_packet(struct device *device, int type, int flags, uint64_t id, const void *payload, uint32_t size)
{
    uint32_t old = device->out.control->write_index;
    while (!write_packet(device, type, flags, id, NULL, 0, payload, size, NULL, 0)) {
        // the host has packets for us that it must get rid of first
        check(wait_for_host(device, packet_size(0, size)), "no room for a packet of %u bytes", size);
        check(room(&device->out) > packet_size(0, size), "no room, and there are packets to read");
        old = device->out.control->write_index;
    }
    tell(device, old);
}

static void run(struct device *device, struct job *job, const char *name)
{
    while (job->answered < job->count) {
        bool idle = true;
        for (; job->sent < job->count; job->sent++) {
            uint32_t old = device->out.control->write_index;
            if (!job->send(device, job))
                break;
            tell(device, old);
        }
        for (; read_packet(device); idle = false)
            if (job->receive(device, job))
                job->answered++;
        finish_reading(device);
        if (idle)
            check(wait_for_host(device, job->sent < job->count ? job->wanted : 0),
                  "%s: %u of %u sent, %u answered, then nothing", name, job->sent, job->count, job->answered);
    }
    printf("%s: %u done, %lu bytes\n", name, job->count, job->bytes);
}

static void expect_completion(const struct device *device, uint64_t id, uint32_t payload_size)
{
    const struct packet *packet = &device->packet;
    check(packet->descriptor.type == COMPLETION, "type %u", packet->descriptor.type);
    check(packet->descriptor.id == id, "id %#lx, not %#lx", packet->descriptor.id, id);
    check(packet->descriptor.flags == 0 && packet->header_size == 0, "flags or header of a completion");
    check(packet->payload_size == payload_size, "%u bytes, not %u", packet->payload_size, payload_size);
}

static uint32_t padded(uint32_t size)
{
    return (size + UNIT - 1) / UNIT * UNIT;
}

static uint32_t word(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

void say_hello(struct device *device)
{
    struct request hello = {.operation = HELLO, .count = device->receive_handle, .smallest = device->send_handle};
    send_packet(device, IN_BAND, WANTS_COMPLETION, 1, &hello, sizeof hello);
    check(wait_for_host(device, 0) && read_packet(device), "the device does not answer");
    expect_completion(device, 1, UNIT);
    printf("hello: VMBus %#x\n", word(device->packet.payload));
    finish_reading(device);
}

void discard_packets(struct device *device)
{
    while (read_packet(device))
        finish_reading(device);
}

// ------------------------------------------------------------ in-band packets

static bool send_echo(struct device *device, struct job *job)
{
    struct request request = request_of(job, job->sent);
    content(scratch, request.seed, request.length);
    job->wanted = packet_size(0, sizeof request + request.length);
    return write_packet(device, IN_BAND, WANTS_COMPLETION, FIRST_ID + job->sent, NULL, 0, &request,
                        sizeof request, scratch, request.length);
}

static bool receive_echo(struct device *device, struct job *job)
{
    struct request sent = request_of(job, job->answered);
    const uint8_t *payload = device->packet.payload;
    expect_completion(device, FIRST_ID + job->answered, padded(sizeof sent + sent.length));
    check(memcmp(payload, &sent, sizeof sent) == 0, "another request's answer");
    check(is_content(payload + sizeof sent, sent.seed, sent.length), "contents of echo %u", job->answered);
    job->bytes += sent.length;
    return true;
}

void run_echo(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest)
{
    run(device, &(struct job){ECHO, count, smallest, largest, .send = send_echo, .receive = receive_echo}, "echo");
}

// ------------------------------------------------------------ the host's own packets

static struct job stream;
static uint32_t seen;

static bool send_request(struct device *device, struct job *job)
{
    struct request request = request_of(&stream, 0);
    job->wanted = packet_size(0, sizeof request);
    seen = 0;
    return write_packet(device, IN_BAND, WANTS_COMPLETION, FIRST_ID, NULL, 0, &request, sizeof request, NULL, 0);
}

static bool is_last(struct device *device)
{
    if (device->packet.descriptor.type != COMPLETION)
        return false;
    expect_completion(device, FIRST_ID, 0);
    check(seen == stream.count, "%u of %u packets before the completion", seen, stream.count);
    return true;
}

static bool receive_sent(struct device *device, struct job *job)
{
    const struct packet *packet = &device->packet;
    bool asks = stream.operation == ASK;
    if (is_last(device))
        return true;
    struct request expected = request_of(&stream, seen);
    check(packet->descriptor.type == IN_BAND && packet->header_size == 0, "type %u", packet->descriptor.type);
    check(packet->descriptor.id == seen, "packet %lu, not %u", packet->descriptor.id, seen);
    check(packet->descriptor.flags == asks, "flags %u", packet->descriptor.flags);
    check(packet->payload_size == padded(expected.length), "%u bytes", packet->payload_size);
    check(is_content(packet->payload, expected.seed, expected.length), "contents of packet %u", seen);
    seen++;
    job->bytes += expected.length;
    if (asks) {
        uint32_t sum = crc32(packet->payload, expected.length);
        send_packet(device, COMPLETION, 0, packet->descriptor.id, &sum, sizeof sum);
    }
    return false;
}

static void run_stream(struct device *device, enum operation operation, uint32_t count, uint32_t smallest,
                       uint32_t largest, bool (*receive)(struct device *, struct job *), const char *name)
{
    stream = (struct job){.operation = operation, .count = count, .smallest = smallest, .largest = largest};
    struct job job = {.operation = operation, .count = 1, .send = send_request, .receive = receive};
    run(device, &job, name);
    printf("%s: %u packets\n", name, seen);
}

void run_receive(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest)
{
    run_stream(device, SEND, count, smallest, largest, receive_sent, "receive");
}

void run_asked(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest)
{
    run_stream(device, ASK, count, smallest, largest, receive_sent, "asked");
}

// ------------------------------------------------------------ transfer pages

struct transfer {
    uint16_t pageset;
    uint8_t owns, reserved;
    uint32_t count;
    struct range ranges[8];
};

static bool receive_transfer(struct device *device, struct job *job)
{
    const struct packet *packet = &device->packet;
    struct transfer header;
    uint32_t length = 0;
    if (is_last(device))
        return true;
    struct request expected = request_of(&stream, seen);
    check(packet->descriptor.type == TRANSFER_PAGES, "type %u", packet->descriptor.type);
    check(packet->descriptor.flags == WANTS_COMPLETION, "flags %u", packet->descriptor.flags);
    check(packet->header_size >= UNIT && packet->header_size <= sizeof header, "header %u", packet->header_size);
    memcpy(&header, packet->header, packet->header_size);
    check(packet->header_size == UNIT + header.count * sizeof(struct range), "%u ranges", header.count);
    for (uint32_t i = 0; i < header.count; length += header.ranges[i++].length) {
        struct range range = header.ranges[i];
        check(range.offset <= device->receive_size && range.length <= device->receive_size - range.offset,
              "%u bytes at %u in the receive buffer", range.length, range.offset);
        check(length + range.length <= LARGEST_PACKET, "a transfer of %u", length + range.length);
        memcpy(scratch + length, device->receive + range.offset, range.length);
    }
    check(length == expected.length, "%u bytes, not %u", length, expected.length);
    check(is_content(scratch, expected.seed, length), "contents of transfer %u", seen);
    seen++;
    job->bytes += length;
    uint32_t sum = crc32(scratch, length);
    send_packet(device, COMPLETION, 0, packet->descriptor.id, &sum, sizeof sum);
    return false;
}

void run_transfer(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest)
{
    run_stream(device, TRANSFER, count, smallest, largest, receive_transfer, "transfer");
}

static bool send_transfer(struct device *device, struct job *job)
{
    struct request request = request_of(job, job->sent);
    uint32_t at = job->sent % WINDOW * SLOT, half = request.length / 2;
    // the second half lies before the first one
    struct transfer header = {.pageset = 0x51, .count = 2,
                              .ranges = {{half, at + HALF + 3}, {request.length - half, at + 1}}};
    if (job->sent - job->answered >= WINDOW)
        return false;
    content(scratch, request.seed, request.length);
    memcpy(device->send + header.ranges[0].offset, scratch, half);
    memcpy(device->send + header.ranges[1].offset, scratch + half, request.length - half);
    job->wanted = packet_size(UNIT + 2 * sizeof(struct range), sizeof request);
    return write_packet(device, TRANSFER_PAGES, WANTS_COMPLETION, FIRST_ID + job->sent, &header,
                        UNIT + 2 * sizeof(struct range), &request, sizeof request, NULL, 0);
}

static bool receive_sum(struct device *device, struct job *job)
{
    struct request sent = request_of(job, job->answered);
    expect_completion(device, FIRST_ID + job->answered, UNIT);
    content(scratch, sent.seed, sent.length);
    check(word(device->packet.payload) == crc32(scratch, sent.length), "sum of %u", job->answered);
    job->bytes += sent.length;
    return true;
}

void run_transfer_out(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest)
{
    run(device,
        &(struct job){TRANSFER_OUT, count, smallest, largest, .send = send_transfer, .receive = receive_sum},
        "transfer-out");
}

// ------------------------------------------------------------ GPA-direct

struct direct {
    uint32_t reserved, count;
    uint64_t words[2 + 2 * SLOT_PAGES];
};

static uint32_t add_range(uint64_t *words, const uint8_t *start, uint32_t length)
{
    struct range range = {length, (uintptr_t)start % PAGE};
    uint32_t pages = (range.offset + length + PAGE - 1) / PAGE;
    memcpy(words, &range, sizeof range);
    for (uint32_t page = 0; page < pages; page++)
        words[1 + page] = page_number(start + (size_t)page * PAGE);
    return 1 + pages;
}

static bool fills(uint32_t number)
{
    return number % 2;
}

static uint8_t *place(uint32_t number, int which)
{
    return slots + number % WINDOW * SLOT + which * HALF + (number * 37 + which * 1001) % PAGE;
}

static bool send_direct(struct device *device, struct job *job)
{
    struct request request = request_of(job, job->sent);
    struct direct header = {.count = 2};
    uint32_t half = request.length / 3, words;
    if (job->sent - job->answered >= WINDOW)
        return false;
    request.operation = fills(job->sent) ? FILL : SUM;
    memset(slots + job->sent % WINDOW * SLOT, GUARD, SLOT);
    if (!fills(job->sent)) {
        content(scratch, request.seed, request.length);
        memcpy(place(job->sent, 1), scratch, half);
        memcpy(place(job->sent, 0), scratch + half, request.length - half);
    }
    words = add_range(header.words, place(job->sent, 1), half);
    words += add_range(header.words + words, place(job->sent, 0), request.length - half);
    job->wanted = packet_size(UNIT + words * UNIT, sizeof request);
    return write_packet(device, GPA_DIRECT, WANTS_COMPLETION, FIRST_ID + job->sent, &header,
                        UNIT + words * UNIT, &request, sizeof request, NULL, 0);
}

static bool receive_direct(struct device *device, struct job *job)
{
    uint32_t number = job->answered, guards = 0;
    struct request sent = request_of(job, number);
    uint32_t half = sent.length / 3;
    if (!fills(number))
        return receive_sum(device, job);
    expect_completion(device, FIRST_ID + number, 0);
    memcpy(scratch, place(number, 1), half);
    memcpy(scratch + half, place(number, 0), sent.length - half);
    check(is_content(scratch, sent.seed, sent.length), "contents of %u", number);
    memset(place(number, 1), GUARD, half);
    memset(place(number, 0), GUARD, sent.length - half);
    for (uint8_t *at = slots + number % WINDOW * SLOT, *end = at + SLOT; at < end; at++)
        guards += *at == GUARD;
    check(guards == SLOT, "%u bytes beside the ranges were written", SLOT - guards);
    job->bytes += sent.length;
    return true;
}

void run_direct(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest)
{
    slots = mmap(NULL, WINDOW * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    check(slots != MAP_FAILED && mlock(slots, WINDOW * SLOT) == 0, "memory: %m");
    check(largest / 3 * 2 + 3 < HALF - PAGE, "%u is too large", largest);
    run(device, &(struct job){SUM, count, smallest, largest, .send = send_direct, .receive = receive_direct},
        "direct");
}

// ------------------------------------------------------------ until the host takes the device away

void run_until_rescinded(struct device *device)
{
    struct job job = {.operation = ECHO, .count = ~0u, .largest = 2000};
    struct control *in = device->in.control;
    uint32_t count;
    ssize_t got = sizeof count;
    printf("until-rescinded: begun\n");
    fflush(stdout);
    while (got == sizeof count) {
        for (; job.sent - job.answered < WINDOW; job.sent++) {
            uint32_t old = device->out.control->write_index;
            if (!send_echo(device, &job))
                break;
            tell(device, old);
        }
        in->interrupt_mask = 0;
        __sync_synchronize();
        if (in->write_index == device->read)
            got = read(device->fd, &count, sizeof count);
        in->interrupt_mask = 1;
        for (; read_packet(device); job.answered++)
            receive_echo(device, &job);
        finish_reading(device);
    }
    check(errno == EIO, "%m");
    printf("until-rescinded: %u echoes\n", job.answered);
}
