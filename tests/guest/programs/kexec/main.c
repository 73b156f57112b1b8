// kexec KERNEL INITRD COMMAND-LINE: starts another kernel in this one's place, drivers shut down first.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count != 4) {
        fprintf(stderr, "kexec KERNEL INITRD COMMAND-LINE\n");
        return 2;
    }
    int kernel = open(words[1], O_RDONLY), initrd = open(words[2], O_RDONLY);
    if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(words[3]) + 1, words[3], 0L) != 0) {
        perror("kexec_file_load");
        return 1;
    }
    reboot(LINUX_REBOOT_CMD_KEXEC);
    perror("reboot");
    return 1;
}
