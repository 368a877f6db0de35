//! Ops and their kernels on the CPU, beyond the case table: against PyTorch, against plain definitions, and what they refuse.

/// Golden files, as numbers.
mod vectors;

/// Every op against PyTorch.
mod golden;

/// The contrastive loss against PyTorch.
mod contrastive_golden;
/// How the contrastive loss's gradient moves, against differences of it.
mod contrastive_hvp;
/// The contrastive loss against a plain double loop.
mod contrastive_loss;
/// The contrastive loss where most pairs count for nothing.
mod contrastive_pairs;
/// conv1d against PyTorch.
mod conv_golden;
/// Convolutions of any shape and options.
mod conv_properties;
/// Values of another graph.
mod foreign;
/// InfoNCE weighted by label distances against a plain definition.
mod info_nce;
/// The fused network against its plain ops.
mod network;
/// Dropout's generator, rate and mask.
mod ops_dropout;
/// Gathering, element by element.
mod ops_gather;
/// Gradients at random shapes and options.
mod ops_random;
/// Parameter sets, optimizers and schedules.
mod optim_params;
/// The contrastive loss of pairs that are there one by one, against a plain definition.
mod pair_loss;
/// Rank-N-Contrast's loss against a plain definition.
mod rank_n_contrast;
/// What ops refuse, and how they say it.
mod refusals;
/// Second derivatives of every case.
mod second;
/// Similarity matrices against a plain definition.
mod similarity_matrix;
