//! Graded performances: loaders, the synthetic set, splits and network inputs.
