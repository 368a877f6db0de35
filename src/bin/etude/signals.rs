//! Being asked to stop: Ctrl-C, or SIGTERM.
//!
//! The first signal is taken note of, and the run ends where it can be taken up again. A second one ends the process at once.

use etude::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown, register_usize};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// How often it is looked for a signal while nobody else looks.
const LOOK: Duration = Duration::from_millis(50);

/// The last signal's number, 0 for none.
static ASKED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// A signal to stop.
#[derive(Clone, Copy, PartialEq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Interrupt, Self::Terminate];

    fn number(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// What a process ends with that it ended.
    pub fn code(self) -> u8 {
        128 + self.number() as u8
    }
}

/// Takes note of signals from now on.
pub fn watch() -> Result<()> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in Signal::ALL {
        // In this order: the first one only sets the flag that the next one finds set.
        let number = signal.number();
        register_conditional_shutdown(number, signal.code().into(), again.clone())
            .and_then(|_| register(number, again.clone()))
            .and_then(|_| register_usize(number, ASKED.clone(), number as usize))
            .map_err(|e| Error::config(format!("{} cannot be caught: {e}", signal.name())))?;
    }
    Ok(())
}

/// The signal that asked to stop, if one did.
pub fn asked() -> Option<Signal> {
    let number = ASKED.load(Ordering::SeqCst);
    Signal::ALL.into_iter().find(|signal| signal.number() as usize == number)
}

/// What `work` gives, or the signal that came before it was done; the work ends with the process then.
pub fn until_asked<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, Signal> {
    let (done, doing) = channel();
    let worker = std::thread::spawn(move || {
        // Nobody listens any more once a signal has come.
        let _ = done.send(work());
    });
    loop {
        if let Some(signal) = asked() {
            return Err(signal);
        }
        match doing.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a worker that ends has sent its result"),
            },
        }
    }
}
