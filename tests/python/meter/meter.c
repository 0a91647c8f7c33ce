/* The part of the lost-write meter that runs without the interpreter lock; see meter/__init__.py.

   Loaded ahead of the C library: parking compares memory and file with memcmp, under the same hold of the lock
   as it swaps pages. Small compares, and all before meter_watch, go straight through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

/* What may be parked begins at 1 MiB; its whole pages can be a little less. */
#define LARGE (64 * 1024) /* parking compares 128 KiB at a time */
#define PAGE ((size_t)4096)
#define RANGES 64

typedef int compare(const void *, const void *, size_t);
static compare *real_compare;

static _Atomic(uintptr_t) watched_start[RANGES], watched_end[RANGES];
static atomic_int watched;

/* How many writers are inside their call, and whether ours should return. */
static atomic_int inside, enough;
/* Where a write would be lost now: from, to. 0: nowhere. */
static _Atomic(uintptr_t) open_from, open_to;
/* Compares of other memory while a writer was inside; of the writer's memory; writes that came too late. */
static atomic_ulong others_moved, own_compared, came_late;

static int slow_compare(const unsigned char *one, const unsigned char *other, size_t bytes) {
    for (size_t at = 0; at < bytes; at++)
        if (one[at] != other[at]) return one[at] < other[at] ? -1 : 1;
    return 0;
}

__attribute__((constructor)) static void find_compare(void) {
    real_compare = (compare *)dlsym(RTLD_NEXT, "memcmp");
}

static long milliseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

static int is_watched(uintptr_t start, size_t bytes) {
    int count = atomic_load(&watched);
    for (int at = 0; at < count; at++)
        if (start < atomic_load(&watched_end[at]) && atomic_load(&watched_start[at]) < start + bytes) return 1;
    return 0;
}

/* How long a writer is given to show that it still writes: once it did not, the other pieces wait less. */
#define PATIENCE 3000
static atomic_long patience = PATIENCE;

/* Equal so far. The pages are about to be replaced: give a writer the time to show that it still writes. */
static void wait_for_a_write(uintptr_t memory, const void *file, size_t bytes) {
    long deadline = milliseconds_now() + atomic_load(&patience);
    atomic_store(&open_to, memory + bytes);
    atomic_store(&open_from, memory);
    while (atomic_load(&inside) && milliseconds_now() < deadline) {
        if (real_compare((const void *)memory, file, bytes) != 0) {
            atomic_fetch_add(&came_late, 1);
            break;
        }
        usleep(200);
    }
    if (milliseconds_now() >= deadline) atomic_store(&patience, PATIENCE / 60);
    atomic_store(&open_from, 0);
}

static int compared(const void *one, const void *other, size_t bytes) {
    int answer = real_compare(one, other, bytes);
    int first = is_watched((uintptr_t)one, bytes), second = is_watched((uintptr_t)other, bytes);
    if (first || second) {
        atomic_fetch_add(&own_compared, 1);
        if (answer == 0) wait_for_a_write((uintptr_t)(first ? one : other), first ? other : one, bytes);
    } else if (atomic_load(&inside)) {
        atomic_fetch_add(&others_moved, 1);
    }
    return answer;
}

int memcmp(const void *one, const void *other, size_t bytes) {
    if (!real_compare) return slow_compare(one, other, bytes);
    if (bytes < LARGE || !atomic_load(&watched)) return real_compare(one, other, bytes);
    return compared(one, other, bytes);
}

int bcmp(const void *one, const void *other, size_t bytes) { return memcmp(one, other, bytes); }

/* Memory that a writer writes to. */
void meter_watch(uintptr_t start, size_t bytes) {
    int at = atomic_load(&watched);
    if (at == RANGES) return;
    atomic_store(&watched_start[at], start);
    atomic_store(&watched_end[at], start + bytes);
    atomic_store(&watched, at + 1);
}

void meter_forget(void) { atomic_store(&watched, 0); }

void meter_enter(void) {
    atomic_store(&patience, PATIENCE);
    atomic_fetch_add(&inside, 1);
}
void meter_leave(void) { atomic_fetch_sub(&inside, 1); }
int meter_inside(void) { return atomic_load(&inside); }
void meter_enough(int yes) { atomic_store(&enough, yes); }

unsigned long meter_others_moved(void) { return atomic_load(&others_moved); }
unsigned long meter_own_compared(void) { return atomic_load(&own_compared); }
unsigned long meter_came_late(void) { return atomic_load(&came_late); }

static uint64_t random_state = 88172645463325252ull;

static uint64_t random_number(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* How long a park takes, in milliseconds: for one to three times as long nothing happens between bursts. Memory that
   changes all the time is never equal to what was written of it, and so in no danger. */
static atomic_long quiet = 40;

void meter_quiet(long milliseconds) { atomic_store(&quiet, milliseconds); }

static long next_burst(void) {
    long least = atomic_load(&quiet);
    return milliseconds_now() + least + (long)(random_number() % (uint64_t)(2 * least));
}

/* Adds 1 to one number of a random page, and to its shadow, until there is enough, or for a minute: in bursts, and at
   once where a write would be lost. One writer at a time. */
void meter_write(unsigned char *start, size_t pages, uint64_t *shadow) {
    long deadline = milliseconds_now() + 60000, next = next_burst();
    meter_enter();
    while (!atomic_load(&enough) && milliseconds_now() < deadline) {
        uintptr_t from = atomic_load(&open_from), to = atomic_load(&open_to);
        int writes = 0;
        size_t page = 0;
        if (from) {
            if (from < (uintptr_t)start) from = (uintptr_t)start;
            if (to > (uintptr_t)start + pages * PAGE) to = (uintptr_t)start + pages * PAGE;
            page = (from - (uintptr_t)start) / PAGE + random_number() % (to > from + PAGE ? (to - from) / PAGE : 1);
            writes = page < pages;
        } else if (milliseconds_now() >= next) {
            writes = 8;
            next = next_burst();
        }
        while (writes--) {
            ++*(volatile uint64_t *)(start + page * PAGE + PAGE / 2);
            shadow[page]++;
            page = random_number() % pages;
        }
        usleep(200);
    }
    meter_leave();
}

/* The same, called with an object, which the call then keeps alive. */
void meter_write_for(void *object, unsigned char *start, size_t pages, uint64_t *shadow) {
    (void)object;
    meter_write(start, pages, shadow);
}

/* Feeds a pipe or socket in chunks, with a pause before each: a short one where a write would be lost, once for each
   such place. More would come into what is compared next, and be seen there. */
int meter_feed(int file, const unsigned char *data, size_t bytes, size_t chunk) {
    uintptr_t served = 0;
    for (size_t sent = 0; sent < bytes;) {
        long next = next_burst();
        while (milliseconds_now() < next && !atomic_load(&enough)) {
            uintptr_t open = atomic_load(&open_from);
            int is_new = open && open != served;
            served = open;
            if (is_new) break;
            usleep(200);
        }
        size_t end = sent + chunk < bytes ? sent + chunk : bytes;
        while (sent < end) {
            ssize_t written = write(file, data + sent, end - sent);
            if (written <= 0) return -1;
            sent += (size_t)written;
        }
    }
    return 0;
}
