//! The stems: one family of kernels each, one name in every language and every layer.
//!
//! This is the only list: `src/kernels`, `src/ops` and `src/cases` declare a module for each of its names, the registry and the
//! case table run through them, and so do the shaders and CUDA sources.

/// Hands every stem to a macro.
macro_rules! stems {
    ($then:ident) => {
        $then! {
            activation
            batch_norm
            ceiling
            contrastive
            contrastive_hvp
            conv1d
            conv2d
            conv_block
            dropout
            elementwise
            feed
            gather
            info_nce
            linear
            loss
            optim
            pair_loss
            pool
            rank_n_contrast
            similarity
            similarity_hvp
        }
    };
}

/// Declares a public module for every stem.
macro_rules! public_modules {
    ($($stem:ident)*) => { $(pub mod $stem;)* };
}

/// Declares a private module for every stem.
macro_rules! modules {
    ($($stem:ident)*) => { $(mod $stem;)* };
}

pub(crate) use {modules, public_modules, stems};
