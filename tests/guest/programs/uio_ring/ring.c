#include "ring.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RINGS_MAP, INTERRUPT_MAP, MONITOR_MAP, RECEIVE_MAP, SEND_MAP };
enum { TRIGGERS = 8, BELLS_IN_GROUP = 32, SUBCHANNEL_PAGES = 512 };
enum { PATTERN = 65521 };  // a prime, so that no two pages are alike

void fail_check(const char *file, int line, const char *condition, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s:%d: not true: %s: ", file, line, condition);
    vprintf(format, arguments);
    printf("\n");
    fflush(stdout);
    exit(1);
}

void pause_ms(unsigned milliseconds)
{
    usleep(milliseconds * 1000);
}

// ------------------------------------------------------------ opening

static bool read_text(char *text, size_t size, const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length < 0 ? 0 : length] = 0;
    return length >= 0;
}

static void *map(const struct device *device, const char *name, int number, uint32_t *size, char *label)
{
    char path[128], text[32];
    snprintf(path, sizeof path, "/sys/class/uio/%s/maps/map%d/size", name, number);
    check(read_text(text, sizeof text, path), "no %s", path);
    *size = strtoul(text, NULL, 16);
    snprintf(path, sizeof path, "/sys/class/uio/%s/maps/map%d/name", name, number);
    check(read_text(label, 32, path), "no %s", path);
    void *where = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, (off_t)number * PAGE);
    check(where != MAP_FAILED, "map %d of %s: %m", number, name);
    return where;
}

unsigned long channel_counter(const struct device *device, const char *name)
{
    char path[192], text[32];
    snprintf(path, sizeof path, "%s/%s", device->channel, name);
    check(read_text(text, sizeof text, path), "no %s", path);
    return strtoul(text, NULL, 10);
}

// Sub-channel `number`; 0 is the primary channel.
static void find_channel(struct device *device, const char *name, unsigned long number)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/class/uio/%s/device/channels", name);
    DIR *directory = opendir(path);
    check(directory != NULL, "no %s", path);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        snprintf(device->channel, sizeof device->channel, "%s/%.16s", path, entry->d_name);
        if (entry->d_name[0] != '.' && channel_counter(device, "subchannel_id") == number)
            break;
    }
    check(entry != NULL, "%s has no sub-channel %lu", path, number);
    closedir(directory);
}

static uint8_t *map_subchannel(const struct device *device, uint32_t *size)
{
    char path[192];
    snprintf(path, sizeof path, "%s/ring", device->channel);
    int fd = open(path, O_RDWR);
    check(fd >= 0, "%s: %m", path);
    *size = 2 * SUBCHANNEL_PAGES * PAGE;
    uint8_t *where = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(where != MAP_FAILED, "%s: %m", path);
    return where;
}

static void split_rings(struct device *device, uint8_t *rings, uint32_t size)
{
    struct ring *both[] = {&device->out, &device->in};
    for (int i = 0; i < 2; i++) {
        both[i]->control = (struct control *)(rings + i * (size / 2));
        both[i]->data = (uint8_t *)both[i]->control + PAGE;
        both[i]->size = size / 2 - PAGE;
    }
    device->read = device->in.control->read_index;
}

void open_device(struct device *device, const char *path)
{
    char file[64] = "", label[32];
    unsigned long number = 0;
    uint32_t size;
    check(sscanf(path, "%63[^:]:%lu", file, &number) > 0, "%s", path);
    const char *name = strrchr(file, '/') + 1;
    device->fd = open(file, O_RDWR);
    check(device->fd >= 0, "%s: %m", file);
    find_channel(device, name, number);
    uint8_t *rings = number ? map_subchannel(device, &size) : map(device, name, RINGS_MAP, &size, label);
    split_rings(device, rings, size);
    uint8_t *monitor = map(device, name, MONITOR_MAP, &size, label);
    unsigned long bell = channel_counter(device, "monitor_id");
    device->bell = (volatile uint32_t *)(monitor + TRIGGERS + 8 * (bell / BELLS_IN_GROUP));
    device->bell_bit = 1u << bell % BELLS_IN_GROUP;
    if (number != 0)
        return;  // the buffers are the primary channel's
    device->receive = map(device, name, RECEIVE_MAP, &device->receive_size, label);
    check(sscanf(label, "recv:%u", &device->receive_handle) == 1, "map name %s", label);
    device->send = map(device, name, SEND_MAP, &device->send_size, label);
    check(sscanf(label, "send:%u", &device->send_handle) == 1, "map name %s", label);
}

// ------------------------------------------------------------ rings

uint32_t filled(const struct ring *ring)
{
    uint32_t write = ring->control->write_index, read = ring->control->read_index;
    return write >= read ? write - read : ring->size - read + write;
}

uint32_t room(const struct ring *ring)
{
    return ring->size - filled(ring);
}

void put(struct ring *ring, uint32_t at, const void *bytes, uint32_t length)
{
    const uint8_t *from = bytes;
    at %= ring->size;
    uint32_t first = length < ring->size - at ? length : ring->size - at;
    memcpy(ring->data + at, from, first);
    memcpy(ring->data, from + first, length - first);
}

static void take(const struct ring *ring, uint32_t at, uint8_t *bytes, uint32_t length)
{
    at %= ring->size;
    uint32_t first = length < ring->size - at ? length : ring->size - at;
    memcpy(bytes, ring->data + at, first);
    memcpy(bytes + first, ring->data, length - first);
}

uint32_t packet_size(uint32_t header_size, uint32_t payload_size)
{
    return DESCRIPTOR + header_size + (payload_size + UNIT - 1) / UNIT * UNIT + FOOTER;
}

bool write_packet(struct device *device, int type, int flags, uint64_t id, const void *header,
                  uint32_t header_size, const void *first, uint32_t first_size, const void *second,
                  uint32_t second_size)
{
    struct ring *ring = &device->out;
    uint32_t write = ring->control->write_index, size = packet_size(header_size, first_size + second_size);
    struct descriptor descriptor = {
        .type = type, .flags = flags, .id = id, .offset8 = (DESCRIPTOR + header_size) / UNIT,
        .length8 = (size - FOOTER) / UNIT,
    };
    uint64_t zero = 0, footer = (uint64_t)write << 32;
    if (room(ring) <= size)
        return false;
    uint32_t at = write + DESCRIPTOR + header_size;
    put(ring, write + size - FOOTER - UNIT, &zero, UNIT);
    put(ring, write, &descriptor, DESCRIPTOR);
    put(ring, write + DESCRIPTOR, header, header_size);
    put(ring, at, first, first_size);
    put(ring, at + first_size, second, second_size);
    put(ring, write + size - FOOTER, &footer, FOOTER);
    __sync_synchronize();
    ring->control->write_index = (write + size) % ring->size;
    device->packets++;
    return true;
}

void ring_bell(struct device *device)
{
    __sync_fetch_and_or(device->bell, device->bell_bit);
    device->bells++;
}

void tell(struct device *device, uint32_t old_write)
{
    __sync_synchronize();
    if (!device->out.control->interrupt_mask && device->out.control->read_index == old_write)
        ring_bell(device);
}

bool read_packet(struct device *device)
{
    struct ring *ring = &device->in;
    struct packet *packet = &device->packet;
    uint32_t write = ring->control->write_index, read = device->read;
    uint64_t footer;
    check(write < ring->size && write % UNIT == 0, "the host's write index is %u", write);
    if (write == read)
        return false;
    __sync_synchronize();
    uint32_t there = write > read ? write - read : ring->size - read + write;
    check(there >= DESCRIPTOR + FOOTER, "only %u bytes", there);
    take(ring, read, packet->bytes, DESCRIPTOR);
    memcpy(&packet->descriptor, packet->bytes, DESCRIPTOR);
    uint32_t begin = packet->descriptor.offset8 * UNIT, end = packet->descriptor.length8 * UNIT;
    check(begin >= DESCRIPTOR && begin <= end && end + FOOTER <= there, "header %u, packet %u, there %u",
          begin, end, there);
    check((packet->descriptor.flags & ~WANTS_COMPLETION) == 0, "flags %#x", packet->descriptor.flags);
    take(ring, read, packet->bytes, end);
    take(ring, read + end, (uint8_t *)&footer, FOOTER);
    check(footer == (uint64_t)read << 32, "the footer of the packet at %u is %#lx", read, footer);
    packet->header = packet->bytes + DESCRIPTOR;
    packet->header_size = begin - DESCRIPTOR;
    packet->payload = packet->bytes + begin;
    packet->payload_size = end - begin;
    device->read = (read + end + FOOTER) % ring->size;
    return true;
}

void finish_reading(struct device *device)
{
    struct ring *ring = &device->in;
    uint32_t before = room(ring);
    __sync_synchronize();
    ring->control->read_index = device->read;
    __sync_synchronize();
    uint32_t wanted = ring->control->pending_send_size;
    if (wanted != 0 && before <= wanted && room(ring) > wanted)
        ring_bell(device);
}

bool wait_for_host(struct device *device, uint32_t size)
{
    struct control *in = device->in.control, *out = device->out.control;
    struct pollfd waiting = {.fd = device->fd, .events = POLLIN};
    uint32_t count;
    int ready = 1;
    out->pending_send_size = size;
    in->interrupt_mask = 0;
    __sync_synchronize();
    while (in->write_index == device->read && (size == 0 || room(&device->out) <= size) && ready > 0) {
        ready = poll(&waiting, 1, 2000);
        if (ready > 0)
            check(read(device->fd, &count, sizeof count) == sizeof count, "no interrupt count: %m");
    }
    in->interrupt_mask = 1;
    out->pending_send_size = 0;
    return ready > 0;
}

// ------------------------------------------------------------ contents

static uint8_t pattern[2 * PATTERN];

static const uint8_t *pattern_of(uint64_t seed)
{
    if (pattern[0] == 0) {
        uint64_t state = 88172645463325252ull;
        for (int i = 0; i < PATTERN; i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pattern[i] = pattern[i + PATTERN] = state >> 32 | (i == 0);
        }
    }
    return pattern + (seed * 0x9E3779B97F4A7C15ull >> 32) % PATTERN;
}

void content(uint8_t *to, uint64_t seed, uint32_t length)
{
    const uint8_t *from = pattern_of(seed);
    for (uint32_t at = 0; at < length; at += PATTERN)
        memcpy(to + at, from, length - at < PATTERN ? length - at : PATTERN);
}

bool is_content(const uint8_t *from, uint64_t seed, uint32_t length)
{
    const uint8_t *wanted = pattern_of(seed);
    for (uint32_t at = 0; at < length; at += PATTERN)
        if (memcmp(from + at, wanted, length - at < PATTERN ? length - at : PATTERN) != 0)
            return false;
    return true;
}

uint32_t crc32(const uint8_t *data, uint32_t length)
{
    static uint32_t table[256];
    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++)
                value = value & 1 ? value >> 1 ^ 0xEDB88320 : value >> 1;
            table[i] = value;
        }
    uint32_t sum = ~0u;
    while (length--)
        sum = sum >> 8 ^ table[(sum ^ *data++) & 0xFF];
    return ~sum;
}

uint64_t page_number(const void *address)
{
    static int pagemap = -1;
    uint64_t entry;
    if (pagemap < 0)
        pagemap = open("/proc/self/pagemap", O_RDONLY);
    check(pread(pagemap, &entry, 8, (uintptr_t)address / PAGE * 8) == 8, "no page of %p: %m", address);
    check(entry >> 63, "the page of %p is not there", address);
    return entry & ((1ull << 55) - 1);
}
