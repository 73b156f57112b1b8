// A channel as uio_hv_generic shows it to a process: its rings, its doorbell, its two buffers.
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096, UNIT = 8, DESCRIPTOR = 16, FOOTER = 8, LARGEST_PACKET = 1 << 16 };
enum { IN_BAND = 6, TRANSFER_PAGES = 7, GPA_DIRECT = 9, COMPLETION = 11 };
enum { WANTS_COMPLETION = 1 };

struct control {
    volatile uint32_t write_index, read_index, interrupt_mask, pending_send_size;
    uint32_t reserved[12];
    volatile uint32_t features;
    uint8_t rest[PAGE - 17 * 4];
};

struct ring {
    struct control *control;
    uint8_t *data;
    uint32_t size;
};

struct descriptor {
    uint16_t type, offset8, length8, flags;
    uint64_t id;
};

struct packet {
    struct descriptor descriptor;
    uint8_t *header, *payload;            // what follows the descriptor, and what follows that
    uint32_t header_size, payload_size;   // the payload's with its padding
    uint8_t bytes[LARGEST_PACKET];
};

struct device {
    int fd;
    struct ring out, in;
    uint32_t read;                        // how far we have read; published by `finish_reading`
    volatile uint32_t *bell;              // the word of the monitor page that has our bit
    uint32_t bell_bit;
    uint8_t *receive, *send;              // the two buffers, and the handles of their GPADLs
    uint32_t receive_size, send_size, receive_handle, send_handle;
    char channel[128];                    // the channel's directory in sysfs
    struct packet packet;                 // the last that was read
    unsigned long bells, packets;
};

// Ends the program with status 1 and a message unless `condition` holds.
#define check(condition, ...) \
    do { if (!(condition)) fail_check(__FILE__, __LINE__, #condition, __VA_ARGS__); } while (0)
void fail_check(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

// `path` is that of the device, with `:N` behind it for sub-channel N.
void open_device(struct device *device, const char *path);
unsigned long channel_counter(const struct device *device, const char *name);

uint32_t room(const struct ring *ring);
uint32_t filled(const struct ring *ring);
void put(struct ring *ring, uint32_t at, const void *bytes, uint32_t length);
uint32_t packet_size(uint32_t header_size, uint32_t payload_size);
// Writes a packet without telling; false when it has no room. `payload` is two pieces.
bool write_packet(struct device *device, int type, int flags, uint64_t id, const void *header,
                  uint32_t header_size, const void *first, uint32_t first_size, const void *second,
                  uint32_t second_size);
void ring_bell(struct device *device);
// Rings when the ring was empty at `old_write` and the host wants to be told.
void tell(struct device *device, uint32_t old_write);

// Takes the next packet into `device->packet` and checks its form; false when there is none.
bool read_packet(struct device *device);
// Gives the host the room of what was read, and rings if it waits for that.
void finish_reading(struct device *device);
// Waits for an interrupt while nothing is there to read and, unless `size` is 0, no more than that many bytes
// are free to write; false after two seconds without one.
bool wait_for_host(struct device *device, uint32_t size);
void pause_ms(unsigned milliseconds);

// `length` bytes that belong to `seed`; the host's side makes the same.
void content(uint8_t *to, uint64_t seed, uint32_t length);
bool is_content(const uint8_t *from, uint64_t seed, uint32_t length);
uint32_t crc32(const uint8_t *data, uint32_t length);
uint64_t page_number(const void *address);

#endif
