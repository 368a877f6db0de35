//! What a command ends with when it cannot do its work.

use etude::Error;

/// An error, and which option of the command line helps.
pub struct Failure {
    pub error: Error,
    pub hint: Option<&'static str>,
}

impl Failure {
    /// An error that an option helps with.
    pub fn hint(hint: &'static str) -> impl FnOnce(Error) -> Self {
        move |error| Self { error, hint: Some(hint) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let other = matches!(&error, Error::Device { device, .. } if device != "cpu");
        Self { error, hint: other.then_some("--device cpu computes on the processor") }
    }
}
