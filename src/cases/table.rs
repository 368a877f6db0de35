//! Every case.

use super::case::Case;
use crate::stems::stems;

macro_rules! table {
    ($($stem:ident)*) => { [$(super::$stem::cases()),*] };
}

/// The whole table.
pub fn all() -> Vec<Case> {
    stems!(table).into_iter().flatten().collect()
}
