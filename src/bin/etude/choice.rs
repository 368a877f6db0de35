//! Enums of the library as options with possible values.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use etude::Error;
use std::str::FromStr;

/// Takes the name of one of `all`.
pub fn one_of<T, const N: usize>(all: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.map(name)).try_map(|name| name.parse::<T>())
}
