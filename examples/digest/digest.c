// Runs in the guest: has the digest device compute the SHA-256 of its standard input, up to 60000 bytes.
//
//   digest [CLAIM]      CLAIM: how many bytes to say there are, instead of how many there are
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, IN_BAND = 6, COMPLETION = 11, WANTS_COMPLETION = 1, LIMIT = 60000 };

struct control { volatile uint32_t write_index, read_index, interrupt_mask, pending_send_size; };
struct descriptor { uint16_t type, offset8, length8, flags; uint64_t id; };

static void die(const char *what)
{
    fprintf(stderr, "digest: %s\n", what);
    exit(1);
}

static unsigned number_in(const char *pattern, int base)
{
    glob_t found;
    char text[32] = "";
    if (glob(pattern, 0, NULL, &found) != 0)
        die("no device: is it bound to uio_hv_generic?");
    int fd = open(found.gl_pathv[0], O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        die(pattern);
    close(fd);
    return strtoul(text, NULL, base);
}

// Waits for a packet, copies what follows its descriptor, and gives the descriptor. (The channel has just been
// opened, so the ring is not nearly full and does not wrap.)
static struct descriptor receive(int fd, struct control *in, uint8_t *payload, size_t *size)
{
    const uint8_t *data = (const uint8_t *)in + PAGE;
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    struct descriptor descriptor;
    uint32_t interrupts;
    while (in->write_index == in->read_index)
        if (poll(&waiting, 1, 2000) < 1 || read(fd, &interrupts, sizeof interrupts) < 0)
            die("the device does not answer");
    memcpy(&descriptor, data + in->read_index, sizeof descriptor);
    *size = (descriptor.length8 - descriptor.offset8) * 8;
    memcpy(payload, data + in->read_index + descriptor.offset8 * 8, *size);
    in->read_index += descriptor.length8 * 8 + 8;
    return descriptor;
}

int main(int count, char **words)
{
    static uint8_t input[LIMIT], payload[1 << 16];
    size_t size = fread(input, 1, LIMIT, stdin);
    uint32_t length = count > 1 ? strtoul(words[1], NULL, 10) : size;

    int fd = open("/dev/uio0", O_RDWR);
    if (fd < 0)
        die("no /dev/uio0: is the device bound to uio_hv_generic?");
    unsigned rings = number_in("/sys/class/uio/uio0/maps/map0/size", 16);
    unsigned bell = number_in("/sys/class/uio/uio0/device/channels/*/monitor_id", 10);
    uint8_t *out = mmap(NULL, rings, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *monitor = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * PAGE);
    if (out == MAP_FAILED || monitor == MAP_FAILED)
        die("cannot map the rings");
    struct control *to_host = (struct control *)out, *from_host = (struct control *)(out + rings / 2);
    struct descriptor descriptor = {
        .type = IN_BAND, .offset8 = 2, .length8 = (sizeof descriptor + 4 + size + 7) / 8,
        .flags = WANTS_COMPLETION, .id = 42,
    };
    uint64_t footer = (uint64_t)to_host->write_index << 32;
    uint8_t *packet = out + PAGE + to_host->write_index;
    memcpy(packet, &descriptor, sizeof descriptor);
    memcpy(packet + 16, &length, 4);
    memcpy(packet + 20, input, size);
    memcpy(packet + descriptor.length8 * 8, &footer, 8);
    __sync_synchronize();
    to_host->write_index += descriptor.length8 * 8 + 8;
    // the device's bit in the monitor page: the host looks at it every 100 microseconds
    __sync_fetch_and_or((uint32_t *)(monitor + 8 + 8 * (bell / 32)), 1u << bell % 32);

    while (descriptor = receive(fd, from_host, payload, &size), descriptor.type != COMPLETION)
        fprintf(stderr, "%.*s\n", (int)size, payload);
    if (descriptor.id != 42 || size != 32)
        die("a completion of something else");
    for (int i = 0; i < 32; i++)
        printf("%02x", payload[i]);
    printf("  -\n");
    return 0;
}
