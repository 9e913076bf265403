/* check_kernels' draws of a device, beside the sampler's own picks. */
#include "tests/bench/check_kernels.h"

#include "backends/kernels/cpu.h"
#include "core/run/sampler.h"

/* Tokens of five rows of n logits, beside the sampler's own. */
static void check_draws_of(const struct kernels *device, int32_t n)
{
    enum { ROWS = 5 };
    struct error err = ERROR_INIT;
    struct sampler *sampler;
    struct draw draws[ROWS], *list[ROWS];
    int32_t prompt[3] = {0}, want[ROWS];
    bool same = true;
    float *x = floats((int64_t)ROWS * n);
    size_t bytes = (size_t)ROWS * (size_t)n * sizeof *x;
    must(sampler_open(oracle, n, &sampler, &err), &err);
    for (int64_t i = 0; i < (int64_t)ROWS * n; i++)
        x[i] *= 8;
    x[4 * (int64_t)n + n / 2] = NAN;
    for (int i = 0; i < ROWS; i++) {
        const struct sampling p = {.temperature = i % 4 ? (float)i : 0,
                                   .top_p = 1,
                                   .repetition = 1,
                                   .logprobs = -1,
                                   .seed = random_u64()};
        const struct history h = {prompt, 3, 3, i, NULL};
        bool may = sampler_draws(&p, &h, n, &draws[i]);
        same &= may;
        list[i] = i == 2 ? NULL : &draws[i];
        want[i] = i == 2   ? DRAW_NOT_YET
                  : i == 4 ? DRAW_NOTHING
                           : sampler_pick(sampler, &p, &h, x + i * (int64_t)n);
    }
    float *there = device->alloc(device, bytes);
    if (!there)
        must(error_memory(&err, "the logits"), &err);
    device->upload(device, there, x, bytes);
    device->draw(device, there, n, ROWS, n, list);
    for (int i = 0; i < ROWS; i++)
        same &= draws[i].token == want[i];
    note_shape(same);
    device->release(device, there);
    sampler_close(sampler);
    memory_free(x);
}

void check_draws(struct kernels *device)
{
    static const int32_t sizes[] = {1, 2, 255, 256, 257, 1000, 4096, 4097, 70001};
    struct error err = ERROR_INIT;
    must(cpu_kernels_open("portable", COMPUTE_EXACT, 1, &oracle, &err), &err);
    table = device;
    begin_line("draw", "");
    for (int times = 0; times < 8; times++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            check_draws_of(device, sizes[i]);
    end_line();
    oracle->close(oracle);
}
