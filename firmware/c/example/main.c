/* The network in flash classifies a test image, called from C; the logits go to the debugger by semihosting. */

#include <stddef.h>
#include <stdint.h>

#include "darts.h"
#include "model.h" /* the sizes: cbindgen of the module that darts export --rust writes */

/* Of model.S, which includes the files. */
extern const uint8_t model_file[MODEL_BYTES], test_image[INPUT_LEN];

/* An array of 0 elements is none in C. */
static float input[INPUT_BUFFER_LEN + 1];
static float workspace[WORKSPACE_LEN];
static float logits[CLASSES];
static DartsNetwork network;

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, STOPPED = 0x20026, ERROR = 0x20024 };

static int semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print(const char *text) { semihost(SYS_WRITE0, text); }

static void print_decimal(int32_t value)
{
    char text[12], *start = text + sizeof text - 1;
    uint32_t rest = value < 0 ? -(uint32_t)value : (uint32_t)value;
    *start = 0;
    do {
        *--start = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0) {
        *--start = '-';
    }
    print(start);
}

static void print_bits(float value)
{
    char text[] = "0x00000000";
    union { float value; uint32_t bits; } both = { value };
    for (int digit = 0; digit < 8; digit++) {
        text[2 + digit] = "0123456789abcdef"[both.bits >> (28 - 4 * digit) & 15];
    }
    print(text);
}

static DartsStatus classify(void)
{
    DartsStatus status = darts_open(&network, model_file, sizeof model_file);
    if (status != DARTS_STATUS_OK) {
        return status;
    }
    return darts_classify(&network, test_image, INPUT_LEN, input, INPUT_BUFFER_LEN, workspace, WORKSPACE_LEN, logits,
                          CLASSES);
}

int main(void)
{
    DartsStatus status = classify();
    if (status != DARTS_STATUS_OK) {
        print("error: status ");
        print_decimal((int32_t)status);
        print("\n");
        return 1;
    }
    for (int class = 0; class < CLASSES; class++) {
        print("logit ");
        print_decimal(class);
        print(": ");
        print_bits(logits[class]);
        print(" ");
        print_decimal((int32_t)(logits[class] * 1e6f));
        print(" / 1000000\n");
    }
    return 0;
}

/* What stands ahead of main on a board of one's own comes from its vendor. */
extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

void reset(void)
{
    /* The floating-point unit: coprocessors 10 and 11. */
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
    for (uint32_t *to = &data_start, *from = &data_load; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    semihost(SYS_EXIT, (const void *)(main() == 0 ? STOPPED : ERROR));
    for (;;) {
    }
}

static void fault(void)
{
    print("error: a fault\n");
    semihost(SYS_EXIT, (const void *)ERROR);
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, reset, fault, fault, fault, fault, fault,
};
