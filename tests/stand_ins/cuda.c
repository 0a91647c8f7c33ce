// A stand-in for libcuda.so.1, NVIDIA's CUDA driver. Not the driver: it starts nothing.
// It answers one question, whether it knows an address, from what the test told it before.
#include <stddef.h>

enum { SUCCESS, INVALID_VALUE, NOT_INITIALIZED = 3, MEMORY_TYPE = 2, HOST = 1 };

// What the function answers without looking: a code, or -1 to look.
int stand_in_code = NOT_INITIALIZED;
unsigned long long stand_in_start, stand_in_end;
unsigned long stand_in_questions;
int stand_in_started;

int cuInit(unsigned flags) { (void)flags; stand_in_started = 1; return SUCCESS; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    (void)context, (void)flags, (void)device;
    stand_in_started = 1;
    return SUCCESS;
}

int cuPointerGetAttribute(void *out, int attribute, unsigned long long address) {
    stand_in_questions++;
    if (stand_in_code >= 0) return stand_in_code;
    if (attribute != MEMORY_TYPE) return INVALID_VALUE;
    if (address < stand_in_start || address >= stand_in_end) return INVALID_VALUE;
    *(unsigned *)out = HOST;
    return SUCCESS;
}
