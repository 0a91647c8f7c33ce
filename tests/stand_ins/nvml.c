// A stand-in for libnvidia-ml.so.1, NVIDIA's management library. Not the library: it knows no card.
// It answers from the text file that NVML_STAND_IN names, read again at every call, a line each:
//
//   card BUS NUMBER TOTAL RESERVED USED NAME   a card; sizes in bytes, NAME to the end of the line
//   lost BUS                                   that card fell off the bus
//   process BUS compute|graphics PID|self BYTES|unknown INSTANCE|- SLICE|-
//   fail FUNCTION CODE                         what that function answers
//   wait FUNCTION FILE                         it answers only once the file exists, or gives up
//   calls FILE                                 the name of every function called is added there
//
// Without the file there is no driver. WITHOUT_MEMORY_V2 builds the library of an old driver.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15, VERSION = 25 };
enum { CARDS = 16, PROCESSES = 4096, NONE = 0xffffffffu };

typedef unsigned long long bytes;
typedef struct { char bus[32], number[64], name[64]; bytes total, reserved, used; int lost; } Card;
typedef struct { unsigned pid; bytes used; unsigned instance, slice; } Process;  // nvmlProcessInfo_v2_t
typedef struct { char bus[32], kind[16]; Process process; } Listed;

static Card cards[CARDS];
static Listed listed[PROCESSES];
static int card_count, process_count;
// A handle stays with its card, wherever the card is in the list later.
static char handles[CARDS][32];

static unsigned number_or_none(const char *text) { return text[0] == '-' ? NONE : (unsigned)strtoul(text, 0, 10); }

static void note_call(const char *file, const char *function) {
    int log = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) { dprintf(log, "%s\n", function); close(log); }
}

static int wait_for(const char *file) {
    for (int tries = 0; tries < 10000; tries++) {
        if (access(file, F_OK) == 0) return SUCCESS;
        usleep(1000);
    }
    return TIMEOUT;
}

/// Reads the script; answers what this function is to fail with.
static int script(const char *function) {
    char line[512], first[256], second[256], third[64], fourth[64], fifth[64], sixth[64];
    char awaited[256] = "";
    int code = SUCCESS;
    const char *path = getenv("NVML_STAND_IN");
    FILE *file = path ? fopen(path, "r") : 0;
    if (!file) return NO_DRIVER;
    card_count = process_count = 0;
    while (fgets(line, sizeof line, file)) {
        Card *card = &cards[card_count];
        if (card_count < CARDS && sscanf(line, "card %31s %63s %llu %llu %llu %63[^\n]", card->bus, card->number,
                   &card->total, &card->reserved, &card->used, card->name) == 6) {
            card->lost = 0;
            card_count++;
        } else if (sscanf(line, "lost %255s", first) == 1) {
            for (int at = 0; at < card_count; at++) cards[at].lost |= !strcmp(cards[at].bus, first);
        } else if (process_count < PROCESSES && sscanf(line, "process %255s %255s %63s %63s %63s %63s",
                   first, second, third, fourth, fifth, sixth) == 6) {
            Listed *entry = &listed[process_count++];
            snprintf(entry->bus, sizeof entry->bus, "%.31s", first);
            snprintf(entry->kind, sizeof entry->kind, "%.15s", second);
            entry->process = (Process){
                strcmp(third, "self") ? (unsigned)strtoul(third, 0, 10) : (unsigned)getpid(),
                strcmp(fourth, "unknown") ? strtoull(fourth, 0, 10) : ~0ull,
                number_or_none(fifth), number_or_none(sixth)};
        } else if (sscanf(line, "fail %255s %63s", first, third) == 2) {
            if (!strcmp(first, function)) code = atoi(third);
        } else if (sscanf(line, "wait %255s %255s", first, second) == 2) {
            if (!strcmp(first, function)) strcpy(awaited, second);
        } else if (sscanf(line, "calls %255s", first) == 1) {
            note_call(first, function);
        }
    }
    fclose(file);
    return awaited[0] && wait_for(awaited) != SUCCESS ? TIMEOUT : code;
}

static int card_of(void *handle, Card **found) {
    const char *bus = handle;
    for (int at = 0; at < card_count; at++)
        if (!strcmp(cards[at].bus, bus)) { *found = &cards[at]; return cards[at].lost ? LOST : SUCCESS; }
    return LOST;  // pulled out
}

#define ANSWER(function) do { int code = script(function); if (code) return code; } while (0)
#define CARD(handle) Card *card; do { int code = card_of(handle, &card); if (code) return code; } while (0)

int nvmlInit_v2(void) { ANSWER("nvmlInit_v2"); return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char *out, unsigned room) { snprintf(out, room, "580.0"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { ANSWER("nvmlDeviceGetCount_v2"); *count = card_count; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    ANSWER("nvmlDeviceGetHandleByIndex_v2");
    if ((int)index >= card_count) return INVALID_ARGUMENT;
    if (cards[index].lost) return LOST;
    int at = 0;
    while (handles[at][0] && strcmp(handles[at], cards[index].bus)) at++;
    strcpy(handles[at], cards[index].bus);
    *handle = handles[at];
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *out, unsigned room) {
    ANSWER("nvmlDeviceGetName");
    CARD(handle);
    snprintf(out, room, "%s", card->name);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *handle, char *out, unsigned room) {
    ANSWER("nvmlDeviceGetUUID");
    CARD(handle);
    snprintf(out, room, "%s", card->number);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *handle, void *out) {
    ANSWER("nvmlDeviceGetPciInfo_v3");
    CARD(handle);
    memset(out, 0, 16 + 5 * 4 + 32);             // nvmlPciInfo_t
    snprintf((char *)out, 16, "%.15s", card->bus + 4);  // the older, shorter spelling
    strcpy((char *)out + 16 + 5 * 4, card->bus);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *handle, bytes *out) {
    ANSWER("nvmlDeviceGetMemoryInfo");
    CARD(handle);
    out[0] = card->total;
    out[2] = card->used + card->reserved;
    out[1] = out[0] - out[2];
    return SUCCESS;
}

#ifndef WITHOUT_MEMORY_V2
int nvmlDeviceGetMemoryInfo_v2(void *handle, unsigned *out) {
    ANSWER("nvmlDeviceGetMemoryInfo_v2");
    CARD(handle);
    if (*out != (40u | 2u << 24)) return VERSION;
    bytes *sizes = (bytes *)(out + 2);
    sizes[0] = card->total;
    sizes[1] = card->reserved;
    sizes[3] = card->used;
    sizes[2] = sizes[0] - sizes[1] - sizes[3];
    return SUCCESS;
}
#endif

static int list(const char *kind, void *handle, unsigned *count, Process *out) {
    CARD(handle);
    unsigned room = out ? *count : 0, needed = 0;
    for (int at = 0; at < process_count; at++) {
        if (strcmp(listed[at].kind, kind) || strcmp(listed[at].bus, card->bus)) continue;
        if (needed < room) out[needed] = listed[at].process;
        needed++;
    }
    *count = needed;
    return needed > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    ANSWER("nvmlDeviceGetComputeRunningProcesses_v3");
    return list("compute", handle, count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, Process *out) {
    ANSWER("nvmlDeviceGetGraphicsRunningProcesses_v3");
    return list("graphics", handle, count, out);
}
