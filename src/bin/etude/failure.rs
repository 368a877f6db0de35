//! What a command ends with when it cannot do its work.

use crate::out::tell;
use crate::signals::Signal;
use etude::Error;

/// Why a command did not do its work.
pub enum Failure {
    /// An error, and which option of the command line helps.
    Error { error: Error, hint: Option<String> },
    /// It was asked to stop; what is left, and how to go on.
    Stopped { signal: Signal, left: String },
}

impl Failure {
    /// An error that an option helps with.
    pub fn hint(hint: impl Into<String>) -> impl FnOnce(Error) -> Self {
        move |error| Self::Error { error, hint: Some(hint.into()) }
    }

    /// Says what it is, on standard error; gives the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Self::Error { error, hint } => {
                tell!("error: {error}");
                if let Some(hint) = hint {
                    tell!("hint: {hint}");
                }
                1
            }
            Self::Stopped { signal, left } => {
                tell!("stopped by {}: {left}", signal.name());
                signal.code()
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let other = matches!(&error, Error::Device { device, .. } if device != "cpu");
        Self::Error { error, hint: other.then(|| "--device cpu computes on the processor".into()) }
    }
}
