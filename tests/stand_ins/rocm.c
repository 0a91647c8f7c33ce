// A stand-in for libhsa-runtime64.so.1, the runtime below AMD's HIP. Not the runtime.
// It answers one question, whether it knows an address, from what the test told it before.
#include <stddef.h>
#include <string.h>

enum { SUCCESS, NOT_INITIALIZED = 0x100b, UNKNOWN = 0, LOCKED = 2 };

int stand_in_code = NOT_INITIALIZED;
unsigned long long stand_in_start, stand_in_end;

// As of ROCm 6; `size` says how much of it the caller has room for.
typedef struct {
    unsigned size;
    int type;
    void *agent_base, *host_base;
    size_t bytes;
    void *user_data;
    unsigned long long owner;
    unsigned flags;
    _Bool registered;
} PointerInfo;

int hsa_amd_pointer_info(const void *pointer, PointerInfo *info, void *(*allocate)(size_t), unsigned *count, void **accessible) {
    (void)allocate, (void)count, (void)accessible;
    if (stand_in_code >= 0) return stand_in_code;
    unsigned long long address = (unsigned long long)pointer;
    PointerInfo answer = {0};
    answer.type = address >= stand_in_start && address < stand_in_end ? LOCKED : UNKNOWN;
    answer.size = info->size < sizeof answer ? info->size : sizeof answer;
    memcpy(info, &answer, answer.size);
    return SUCCESS;
}
