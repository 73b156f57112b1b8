// What is said on the channel, and the commands; the host's side is tests/support/exchange.py.
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "ring.h"

enum operation {
    HELLO = 1,     // count and smallest are the handles of the receive and the send buffer
    ECHO,          // with content behind it: give all back
    SUM,           // GPA-direct: give the CRC of the ranges
    FILL,          // GPA-direct: put content into the ranges
    SEND,          // send `count` packets of `smallest` to `largest` bytes, then complete
    ASK,           // the same, and each wants to be completed with its CRC
    TRANSFER,      // put content into the receive buffer and tell of it, `count` times, then complete
    TRANSFER_OUT,  // transfer pages: give the CRC of the ranges in the send buffer
    NOTHING,       // wants no answer
};

struct request {
    uint32_t operation, length;
    uint64_t seed;
    uint32_t count, smallest, largest, spare;
};

uint32_t size_between(uint64_t seed, uint32_t smallest, uint32_t largest);
// Writes, and waits for room if need be.
void send_packet(struct device *device, int type, int flags, uint64_t id, const void *payload, uint32_t size);
void say_hello(struct device *device);
void discard_packets(struct device *device);

void run_echo(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest);
void run_direct(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest);
void run_receive(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest);
void run_asked(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest);
void run_transfer(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest);
void run_transfer_out(struct device *device, uint32_t count, uint32_t smallest, uint32_t largest);
void run_signals(struct device *device);
void run_until_rescinded(struct device *device);
bool run_hostile(struct device *device, const char *name);
void list_hostile(void);

#endif
