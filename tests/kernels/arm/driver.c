/* Calls the kernels, compiled for ARM and run in an emulator, on the memory of the process that asks.
 *
 * Requests come on standard input, one per call: int32 length of the name, the name, int32 n_integers, int32 n_floats,
 * int32 n_stack, then that many int64 words each, in registers as the ARM procedure call standard has them. Answer:
 * int64 result, or the text of a char pointer, after an int32 status (0 done, 1 an address that cannot be had here).
 *
 * A pointer is an address in the asking process. The first touch of a page faults; the handler maps a page at the same
 * address and fills it from /proc/<pid>/mem. After the call, the bytes that changed are written back, and all pages are
 * forgotten. A page that this process uses already (status 1) is for the asker to try again in another process. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, MOST_PAGES = 1 << 16 };

typedef struct {
    const char *name;
    void *function;
    int returns_text;
} entry;
extern const entry table[];

/* Takes the place of the C library's, which clears memory by an instruction (DC ZVA) that the emulator does in part when a
 * page is not there yet. */
void *memset(void *to, int byte, size_t n) {
    for (volatile char *p = to, *end = p + n; p != end; p++) *p = (char)byte;
    return to;
}

static int memory;
static struct {
    char *address, *before;
} pages[MOST_PAGES];
static volatile int n_pages;
static sigjmp_buf give_up;

static void fetch_page(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    char *address = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));
    if (n_pages == MOST_PAGES) siglongjmp(give_up, 1);
    char *page = mmap(address, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (page != address) siglongjmp(give_up, 1);
    pages[n_pages].address = page;
    pages[n_pages].before = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    n_pages++;
    if (pread(memory, page, PAGE, (off_t)(uintptr_t)page) != PAGE) siglongjmp(give_up, 2);
    memcpy(pages[n_pages - 1].before, page, PAGE);
}

static int write_back(void) {
    int failed = 0;
    for (int i = 0; i < n_pages; i++) {
        char *now = pages[i].address, *before = pages[i].before;
        for (int at = 0; at < PAGE;) {
            int end = at;
            while (end < PAGE && now[end] != before[end]) end++;
            if (end > at && pwrite(memory, now + at, (size_t)(end - at), (off_t)(uintptr_t)(now + at)) != end - at) failed = 1;
            at = end > at ? end : at + 1;
        }
        munmap(now, PAGE), munmap(before, PAGE);
    }
    n_pages = 0;
    return failed;
}

static void need(void *into, size_t bytes) {
    if (fread(into, 1, bytes, stdin) != bytes) exit(0);
}

typedef int64_t (*function)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                            double, double, double, double, double, double, double, double,
                            int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                            int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                            int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                            int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/mem", argv[1]);
    memory = open(path, O_RDWR);
    if (memory < 0) return 3;
    static char stack[1 << 16];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, 0);
    struct sigaction action = {.sa_sigaction = fetch_page, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigaction(SIGSEGV, &action, 0);
    for (;;) {
        int32_t length, counts[3];
        char name[256] = {0};
        need(&length, sizeof length);
        if (length < 1 || length > 255) return 4;
        need(name, (size_t)length);
        need(counts, sizeof counts);
        int64_t r[8] = {0}, s[32] = {0};
        double d[8] = {0};
        if (counts[0] > 8 || counts[1] > 8 || counts[2] > 32) return 4;
        need(r, 8 * (size_t)counts[0]);
        need(d, 8 * (size_t)counts[1]);
        need(s, 8 * (size_t)counts[2]);
        const entry *e = table;
        while (e->name && strcmp(e->name, name)) e++;
        if (!e->name) return 5;
        int32_t status = 0;
        int64_t result = 0;
        if (sigsetjmp(give_up, 1) == 0) {
            result = ((function)e->function)(
                r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7],
                s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15],
                s[16], s[17], s[18], s[19], s[20], s[21], s[22], s[23], s[24], s[25], s[26], s[27], s[28], s[29], s[30], s[31]);
            if (write_back()) status = 2;
        } else {
            write_back();
            status = 1;
        }
        fwrite(&status, sizeof status, 1, stdout);
        if (status == 0 && e->returns_text) {
            const char *text = (const char *)(uintptr_t)result;
            int64_t size = (int64_t)strlen(text);
            fwrite(&size, sizeof size, 1, stdout);
            fwrite(text, 1, (size_t)size, stdout);
        } else if (status == 0) {
            fwrite(&result, sizeof result, 1, stdout);
        }
        fflush(stdout);
    }
}
