// The contrastive loss of six ratings, its gradient, a convolution, and what an error looks like.
//
//     cargo rustc --release --lib --features ffi --crate-type cdylib
//     cc -Iinclude examples/c/contrastive.c -Ltarget/release -letude -Wl,-rpath,target/release -o contrastive && ./contrastive

#include <etude.h>
#include <stdio.h>
#include <stdlib.h>

static void check(EtudeStatus status) {
    if (status != ETUDE_OK) {
        fprintf(stderr, "%s\n", etude_last_error());
        exit(EXIT_FAILURE);
    }
}

int main(void) {
    if (etude_abi_version() != ETUDE_ABI_VERSION) {
        fprintf(stderr, "etude.h has ABI %d, the library %u\n", ETUDE_ABI_VERSION, (unsigned)etude_abi_version());
        return EXIT_FAILURE;
    }
    EtudeContext *cpu;
    check(etude_cpu_new(0, &cpu));

    // Six samples in two dimensions, labelled by the bin of their rating.
    const float embeddings[6][2] = {{0, 0}, {1, 0}, {0.25f, 0.5f}, {2, 1}, {-1, 0.5f}, {0.5f, -1}};
    const float labels[6] = {0, 0, 1, 2, 4, 4};
    float gradient[6][2], loss;
    EtudeContrastive contrastive = etude_contrastive_defaults();
    contrastive.d = 2;
    const EtudeSamples samples = {.n = 6, .embeddings = embeddings, .labels = labels, .gradient = &gradient[0][0]};
    check(etude_contrastive(cpu, &contrastive, &samples, &loss));
    printf("loss %.9g\n", loss);
    for (int i = 0; i < 6; i++) printf("gradient %.9g %.9g\n", gradient[i][0], gradient[i][1]);

    // One channel of eight positions through two filters of three taps, every second position.
    const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, weight[2][3] = {{1, 0, -1}, {0.5f, 0.5f, 0.5f}}, bias[2] = {10, 0};
    EtudeConv1d conv = etude_conv1d_defaults();
    conv.batch = conv.cin = 1;
    conv.length = 8;
    conv.cout = 2;
    conv.taps = 3;
    conv.stride = 2;
    size_t length;
    check(etude_conv1d_output(&conv, &length));
    float *y = malloc(2 * length * sizeof *y);
    if (!y) return EXIT_FAILURE;
    check(etude_conv1d_forward(cpu, &conv, x, &weight[0][0], bias, y));
    for (size_t i = 0; i < 2 * length; i++) printf("y %.9g\n", y[i]);
    free(y);

    // Errors come back as a status and a message.
    contrastive.margin = -1;
    if (etude_contrastive(cpu, &contrastive, &samples, &loss) == ETUDE_INVALID_ARGUMENT)
        printf("error %s\n", etude_last_error());
    etude_context_free(cpu);
    return EXIT_SUCCESS;
}
