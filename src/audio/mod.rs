//! Pitch contours and their alignment to a reference: no device, no model.
