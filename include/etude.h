// Convolutions, pairwise similarities and the label-distance-weighted contrastive loss, forward and backward, on memory of the
// caller's. Generated from src/ffi: edit that, then run `UPDATE_HEADER=1 cargo test --features ffi --test faces`.
//
// Tensors are dense and in C order. Memory belongs to the caller before, during and after a call: nothing is copied, and nothing but
// a context is kept. What a call writes must not overlap anything else that it is given: that is ETUDE_INVALID_ARGUMENT, before
// anything is written.

#ifndef ETUDE_H
#define ETUDE_H

#include <stddef.h>
#include <stdint.h>

// Counts up when a struct or a function changes; compare it with etude_abi_version() where the library is loaded at run time.
#define ETUDE_ABI_VERSION 1

// Where calls run. Made by etude_cpu_new() and its like, freed by etude_context_free().
//
// Any thread may use it, several at once too; on the CPU their calls then wait for each other. A child of fork() may use and
// free a context of the CPU that its parent made: it starts threads of its own. One of CUDA is an error there, as CUDA is.
typedef struct EtudeContext EtudeContext;

// What a call returns: one of ETUDE_OK, ETUDE_INVALID_ARGUMENT, ETUDE_DEVICE_FAILED and ETUDE_PANICKED. Where it is not
// ETUDE_OK, etude_last_error() says why, and what a call was to write holds nothing of use.
typedef int32_t EtudeStatus;

// How exact products are: ETUDE_PRECISION_F32, ETUDE_PRECISION_TF32 or ETUDE_PRECISION_EXACT.
typedef uint32_t EtudePrecision;

// A convolution over one dimension: shapes and options. Start from etude_conv1d_defaults() and set the shapes.
//
// `x [batch, cin, length]`, `weight [cout, cin/groups, taps]`, `bias [cout]`, `y [batch, cout, etude_conv1d_output()]`, all f32
// in C order.
typedef struct {
  // Samples; 0 until set.
  size_t batch;
  // Input channels; 0 until set.
  size_t cin;
  // Input positions; 0 until set.
  size_t length;
  // Output channels; 0 until set.
  size_t cout;
  // Positions of the weight; 0 until set.
  size_t taps;
  // Input positions from one output position to the next; 1.
  size_t stride;
  // Zeros added at either end; 0.
  size_t padding;
  // Input positions from one tap to the next; 1.
  size_t dilation;
  // Groups that input and output channels are split into; 1.
  size_t groups;
  // An EtudePrecision; ETUDE_PRECISION_F32.
  EtudePrecision precision;
} EtudeConv1d;

// A convolution over two dimensions: shapes and options. Start from etude_conv2d_defaults() and set the shapes.
//
// `x [batch, cin, size[0], size[1]]`, `weight [cout, cin/groups, taps[0], taps[1]]`, `bias [cout]` and
// `y [batch, cout, size of the output]`, all f32 in C order. Pairs are vertical, then horizontal.
typedef struct {
  // Samples; 0 until set.
  size_t batch;
  // Input channels; 0 until set.
  size_t cin;
  // Input rows and columns; 0 until set.
  size_t size[2];
  // Output channels; 0 until set.
  size_t cout;
  // Rows and columns of the weight; 0 until set.
  size_t taps[2];
  // Input positions from one output position to the next; 1.
  size_t stride[2];
  // Zeros added at either edge; 0.
  size_t padding[2];
  // Input positions from one tap to the next; 1.
  size_t dilation[2];
  // Groups that input and output channels are split into; 1.
  size_t groups;
  // An EtudePrecision; ETUDE_PRECISION_F32.
  EtudePrecision precision;
} EtudeConv2d;

// What is computed of two rows: one of ETUDE_DOT, ETUDE_COSINE, ETUDE_SQUARED_EUCLIDEAN and ETUDE_EUCLIDEAN.
typedef uint32_t EtudeSimilarityKind;

// How embeddings and the rows of similarities are stored: one of ETUDE_F32, ETUDE_F16 and ETUDE_BF16.
typedef uint32_t EtudeType;

// Every row of `a [n, d]` against every row of `b [m, d]`. Start from etude_similarity_defaults() and set the shapes.
typedef struct {
  // Rows of a; 0 until set.
  size_t n;
  // Rows of b; 0 until set.
  size_t m;
  // Columns of both; 0 until set.
  size_t d;
  // An EtudeSimilarityKind; ETUDE_DOT.
  EtudeSimilarityKind kind;
  // An EtudeType, of a and b alike; ETUDE_F32. The matrix and all gradients are f32.
  EtudeType dtype;
} EtudeSimilarity;

// How far apart two embeddings are: ETUDE_METRIC_EUCLIDEAN or ETUDE_METRIC_COSINE.
typedef uint32_t EtudeMetric;

// The label-distance-weighted contrastive loss. Start from etude_contrastive_defaults() and set d.
//
// `weight` times the mean over pairs, 0 where no pair counts: with D the distance of two embeddings and w that of their labels,
// a pair with w <= tau (1.00025 tau + 1e-6, which leaves room for roundings) costs D^2/2, any other max(0, margin·w - D)^2/2.
// Labels and weights are finite and not negative: on the CPU another one is ETUDE_INVALID_ARGUMENT; on CUDA, where the host does
// not see it, the loss is NaN.
typedef struct {
  // Columns of the embeddings; 0 until set.
  size_t d;
  // An EtudeType, of all embeddings; ETUDE_F32. The loss and all gradients are f32.
  EtudeType dtype;
  // An EtudeMetric; ETUDE_METRIC_EUCLIDEAN.
  EtudeMetric metric;
  // A negative pair of label distance w should be margin·w apart; positive; 0.5.
  float margin;
  // Largest label distance of a positive pair; 0, for labels that are bins.
  float tau;
  // Multiplies the loss, and so its gradient; 1.
  float weight;
  // Multiplies the gradient alone; 1.
  float grad_scale;
} EtudeContrastive;

// A set of samples: memory of the caller's, on the context's device.
typedef struct {
  // How many there are.
  size_t n;
  // `[n, d]` of the loss's dtype, read.
  const void *embeddings;
  // `[n]`, finite, read.
  const float *labels;
  // `[n]`, finite and not negative, read: a pair counts as the product of its two, so that 0 masks a sample out, whatever its
  // row and label hold. May be null: all samples count alike.
  const float *weights;
  // `[n, d]`, written: the loss's gradient by the embeddings, which comes in the same pass.
  float *gradient;
} EtudeSamples;

// The call did what it says.
#define ETUDE_OK 0

// An argument is null, or does not fit the others.
#define ETUDE_INVALID_ARGUMENT 1

// There is no such device, or it could not do what was asked: memory ran out, the driver failed.
#define ETUDE_DEVICE_FAILED 2

// A fault in the library, caught before it reached the caller. The context should be freed and not used again.
#define ETUDE_PANICKED 3

// Single precision.
#define ETUDE_F32 0

// IEEE half precision, read and computed on in f32.
#define ETUDE_F16 1

// The upper half of an f32, read and computed on in f32.
#define ETUDE_BF16 2

// Factors as they are; the CPU takes fewer products than a wide convolution has terms, where that is faster.
#define ETUDE_PRECISION_F32 0

// CUDA may round them to ten bits for the tensor cores (an error of 2^-11 each), with sums in f32; the CPU computes in f32.
#define ETUDE_PRECISION_TF32 1

// Factors as they are, and each term of a sum a product of its own.
#define ETUDE_PRECISION_EXACT 2

// a·b
#define ETUDE_DOT 0

// a·b / (|a| |b|)
#define ETUDE_COSINE 1

// |a - b|^2
#define ETUDE_SQUARED_EUCLIDEAN 2

// |a - b|
#define ETUDE_EUCLIDEAN 3

// |a - b|
#define ETUDE_METRIC_EUCLIDEAN 0

// 1 - a·b / (|a| |b|), and 1 where a row is zero
#define ETUDE_METRIC_COSINE 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version, as "0.1.0"; static.
const char *etude_version(void);

// The ETUDE_ABI_VERSION that the library was built with.
uint32_t etude_abi_version(void);

// Why the last call of this thread that failed did: UTF-8 that names the call, the argument, what was expected and what was
// given. Empty where none failed. The library's: valid until another call of this thread fails, or the thread ends.
const char *etude_last_error(void);

// A context for the CPU on `threads` threads, 0 for as many as there are cores; more than four times the cores, or 64 where
// that is more, are taken for so many. Calls take host pointers, and are done when they return. The result is the same to the
// last bit whatever the number of threads.
//
// # Safety
// `context` is valid to write.
EtudeStatus etude_cpu_new(size_t threads,
                          EtudeContext **context);

// A context for NVIDIA card `ordinal` as CUDA counts them, with a stream of its own, in the card's primary context (the CUDA
// runtime's).
//
// Calls take device pointers (EtudeSamples, descriptions of shapes and `context` itself stay on the host), are enqueued and
// return at once: wait with etude_synchronize() before reading results or freeing memory. Kernels are compiled or loaded when
// first used, so that call takes longer.
//
// # Safety
// `context` is valid to write.
EtudeStatus etude_cuda_new(size_t ordinal,
                           EtudeContext **context);

// As etude_cuda_new(), on a stream of the caller's: a cudaStream_t or CUstream of card `ordinal`'s primary context, null for the
// default stream. Calls are in order with whatever else is enqueued there. The stream must outlive the context.
//
// # Safety
// `stream` is such a stream, and `context` is valid to write.
EtudeStatus etude_cuda_on_stream(size_t ordinal,
                                 void *stream,
                                 EtudeContext **context);

// Frees a context; nothing where it is null. What is enqueued on CUDA still runs.
//
// # Safety
// `context` is null or was made here, is used by no other thread, and is not used again.
void etude_context_free(EtudeContext *context);

// Waits until everything that was enqueued on the context's stream is done. The CPU has nothing to wait for.
//
// # Safety
// `context` is null or one of ours.
EtudeStatus etude_synchronize(const EtudeContext *context);

// Defaults; every shape is 0.
EtudeConv1d etude_conv1d_defaults(void);

// Defaults; every shape is 0.
EtudeConv2d etude_conv2d_defaults(void);

// Output positions of a convolution.
//
// # Safety
// `conv` is valid to read, `length` to write.
EtudeStatus etude_conv1d_output(const EtudeConv1d *conv, size_t *length);

// Output rows and columns of a convolution, into `size[0]` and `size[1]`.
//
// # Safety
// `conv` is valid to read, `size` to write.
EtudeStatus etude_conv2d_output(const EtudeConv2d *conv, size_t *size);

// The convolution of `x` with `weight`, plus `bias` unless that is null, into `y`.
//
// # Safety
// Pointers are null or as EtudeConv1d describes, on the context's device.
EtudeStatus etude_conv1d_forward(const EtudeContext *context,
                                 const EtudeConv1d *conv,
                                 const float *x,
                                 const float *weight,
                                 const float *bias,
                                 float *y);

// From `dy`, the gradient by the output, those by input, weight and bias; a null `dx`, `dweight` or `dbias` is not wanted and
// costs nothing.
//
// # Safety
// As etude_conv1d_forward().
EtudeStatus etude_conv1d_backward(const EtudeContext *context,
                                  const EtudeConv1d *conv,
                                  const float *x,
                                  const float *weight,
                                  const float *dy,
                                  float *dx,
                                  float *dweight,
                                  float *dbias);

// As etude_conv1d_forward(), over two dimensions.
//
// # Safety
// Pointers are null or as EtudeConv2d describes, on the context's device.
EtudeStatus etude_conv2d_forward(const EtudeContext *context,
                                 const EtudeConv2d *conv,
                                 const float *x,
                                 const float *weight,
                                 const float *bias,
                                 float *y);

// As etude_conv1d_backward(), over two dimensions.
//
// # Safety
// As etude_conv2d_forward().
EtudeStatus etude_conv2d_backward(const EtudeContext *context,
                                  const EtudeConv2d *conv,
                                  const float *x,
                                  const float *weight,
                                  const float *dy,
                                  float *dx,
                                  float *dweight,
                                  float *dbias);

// Defaults; every shape is 0.
EtudeSimilarity etude_similarity_defaults(void);

// The matrix `y [n, m]` from `a [n, d]` and `b [m, d]`.
//
// # Safety
// Pointers are null or as described, on the context's device.
EtudeStatus etude_similarity_forward(const EtudeContext *context,
                                     const EtudeSimilarity *similarity,
                                     const void *a,
                                     const void *b,
                                     float *y);

// From `dy [n, m]`, the gradient by the matrix, those by `a` and `b`: `da [n, d]` and `db [m, d]`, both f32.
//
// # Safety
// As etude_similarity_forward().
EtudeStatus etude_similarity_backward(const EtudeContext *context,
                                      const EtudeSimilarity *similarity,
                                      const void *a,
                                      const void *b,
                                      const float *dy,
                                      float *da,
                                      float *db);

// Defaults; d is 0.
EtudeContrastive etude_contrastive_defaults(void);

// The loss over all unordered pairs of `samples`, two at least, into `loss`, one float on the context's device, and its gradient
// into `samples->gradient`. Memory stays O(n·d): no matrix of pairs is stored.
//
// # Safety
// Pointers are null or as described, those to floats on the context's device.
EtudeStatus etude_contrastive(const EtudeContext *context,
                              const EtudeContrastive *contrastive,
                              const EtudeSamples *samples,
                              float *loss);

// The loss over every one of `samples` with every one of `others`, into `loss`, one float on the context's device, and its
// gradients into both sets' `gradient`.
//
// # Safety
// As etude_contrastive().
EtudeStatus etude_contrastive_cross(const EtudeContext *context,
                                    const EtudeContrastive *contrastive,
                                    const EtudeSamples *samples,
                                    const EtudeSamples *others,
                                    float *loss);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ETUDE_H */
