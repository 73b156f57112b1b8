// The work that the guest does, a function each. Prints, by the guest's monotonic clock:
//   BEGIN name
//   BENCH name seconds checksum
// The checksum is of what was computed, so that contenders can be held to the same answer.
//
//   work NAME                      one of BENCHMARKS
//   work time NAME PROGRAM ARG...  a program; the checksum is of its output
//   work data MIB                  text that compresses to about a third, on standard output
#define SHA256_PASSES 4
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define FNV_START 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// Says that the clock starts, and waits until the console has taken it.
static void begin(const char *name)
{
    printf("BEGIN %s\n", name);
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
}

static void *memory(size_t size)
{
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED)
        fail("mmap");
    return address;
}

static uint64_t fnv(uint64_t hash, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * FNV_PRIME;
    return hash;
}

// 200 processes that do nothing but end, with a status that is counted.
#define CHILD_STATUS 7

static uint64_t fork_exec(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            execl("/proc/self/exe", "work", "true", NULL);
            _exit(127);
        }
        int status;
        if (waitpid(child, &status, 0) != child)
            fail("waitpid");
        sum += WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
    }
    return sum;
}

// 400,000 system calls that write one byte to nowhere.
static uint64_t system_calls(void)
{
    int null = open("/dev/null", O_WRONLY);
    if (null < 0)
        fail("/dev/null");
    uint64_t written = 0;
    for (int i = 0; i < 400000; i++)
        written += write(null, "x", 1);
    close(null);
    return written;
}

static const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static void sha256_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
        uint32_t t1 = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + SHA256_K[i] + w[i];
        uint32_t a = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
        uint32_t t2 = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

// SHA-256 of 16 MiB: 4 MiB, SHA256_PASSES times.
static uint64_t sha256(void)
{
    const size_t size = 4 * MIB;
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t last[64] = {0x80};
    uint8_t *data = memory(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 8));
    for (int round = 0; round < SHA256_PASSES; round++)
        for (size_t i = 0; i < size; i += 64)
            sha256_block(state, data + i);
    last[60] = SHA256_PASSES * size * 8 >> 24; // the length in bits, of which the other bytes are zero
    sha256_block(state, last);
    return (uint64_t)state[0] << 32 | state[1];
}

// The first touch of 50,000 pages.
static uint64_t page_faults(void)
{
    const size_t pages = 50000, size = pages * 4096;
    uint8_t *data = memory(size);
    madvise(data, size, MADV_NOHUGEPAGE);
    uint64_t sum = 0;
    for (size_t i = 0; i < pages; i++) {
        sum += data[i * 4096] + i;
        data[i * 4096] = (uint8_t)i;
    }
    munmap(data, size);
    return sum;
}

// Sixteen copies of 64 MiB; the pages are there before the clock starts.
#define COPY_SIZE (64 * MIB)
static uint8_t *copy_from, *copy_to;

static void prepare_memory_copy(void)
{
    copy_from = memory(COPY_SIZE);
    copy_to = memory(COPY_SIZE);
    for (size_t i = 0; i < COPY_SIZE; i += 64)
        copy_from[i] = (uint8_t)(i >> 6);
    memset(copy_to, 1, COPY_SIZE);
}

static uint64_t memory_copy(void)
{
    uint64_t hash = FNV_START;
    for (size_t round = 1; round <= 16; round++) {
        copy_from[(round - 1) * 4096] ^= (uint8_t)round;
        memcpy(copy_to, copy_from, COPY_SIZE);
        for (size_t i = 0; i < COPY_SIZE; i += MIB)
            hash = fnv(hash, copy_to + i, 1);
    }
    return fnv(hash, copy_to, 65536);
}

// Five million rounds of multiply, add, divide, add and square root in double precision.
static uint64_t floating_point(void)
{
    volatile double start = 1.5;
    double x = start, y = 0.75;
    for (int i = 1; i <= 5000000; i++) {
        x = x * 1.000000119 + y;
        y = x / i;
        x = sqrt(x + y);
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static const struct {
    const char *name;
    void (*prepare)(void);
    uint64_t (*run)(void);
} BENCHMARKS[] = {
    {"fork_exec", NULL, fork_exec},
    {"system_calls", NULL, system_calls},
    {"sha256", NULL, sha256},
    {"page_faults", NULL, page_faults},
    {"memory_copy", prepare_memory_copy, memory_copy},
    {"floating_point", NULL, floating_point},
};

static int report(const char *name, double seconds, uint64_t checksum)
{
    printf("BENCH %s %.6f %016llx\n", name, seconds, (unsigned long long)checksum);
    fflush(stdout);
    return 0;
}

static int run_benchmark(const char *name)
{
    for (size_t i = 0; i < sizeof BENCHMARKS / sizeof *BENCHMARKS; i++) {
        if (strcmp(name, BENCHMARKS[i].name))
            continue;
        if (BENCHMARKS[i].prepare)
            BENCHMARKS[i].prepare();
        begin(name);
        double start = now();
        uint64_t checksum = BENCHMARKS[i].run();
        return report(name, now() - start, checksum);
    }
    return -1;
}

// The output goes to a file, so that hashing it is no part of the time.
static int time_program(const char *name, char **program)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/%s.out", name);
    int output = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (output < 0)
        fail(path);
    begin(name);
    double start = now();
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        dup2(output, STDOUT_FILENO);
        execvp(program[0], program);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    double end = now();
    if (status) {
        fprintf(stderr, "work: %s ended with status %#x\n", program[0], status);
        return 1;
    }
    static uint8_t buffer[65536];
    uint64_t hash = FNV_START;
    lseek(output, 0, SEEK_SET);
    for (ssize_t n; (n = read(output, buffer, sizeof buffer)) > 0;)
        hash = fnv(hash, buffer, n);
    unlink(path);
    return report(name, end - start, hash);
}

// Words of seven digits; most are among 700, so that they repeat.
static int write_data(size_t size)
{
    uint64_t state = 88172645463325252ull;
    for (size_t n = size / 8; n; n--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint32_t word = state & 7 ? (state >> 32) % 700 : state >> 32;
        char text[9];
        snprintf(text, sizeof text, "%07x ", word & 0xfffffff);
        if (fwrite(text, 8, 1, stdout) != 1)
            fail("write");
    }
    return fflush(stdout) != 0;
}

int main(int count, char **arguments)
{
    if (count == 2 && !strcmp(arguments[1], "true"))
        return CHILD_STATUS;
    if (count >= 4 && !strcmp(arguments[1], "time"))
        return time_program(arguments[2], arguments + 3);
    if (count == 3 && !strcmp(arguments[1], "data"))
        return write_data(strtoul(arguments[2], NULL, 10) * MIB);
    int status = count == 2 ? run_benchmark(arguments[1]) : -1;
    if (status >= 0)
        return status;
    fputs("usage: work NAME | time NAME PROGRAM ARG... | data MIB\n", stderr);
    return 2;
}
