//! Threads that stay together for a whole list of launches.
//!
//! A step is a score of launches of some ten microseconds each; to wake a thread takes as long as one of them. So a plan calls
//! its threads once: one goes through the launches, and the others look, awake, for the next pieces of work.
//!
//! Each thread first takes its own share of the pieces, the same part of every launch, so that it finds in its cache what it
//! left there; then it helps with what is left of the others'.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What is called for each piece.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// How often a thread that waits looks again before it lets others run.
const LOOKS: usize = 1 << 8;

/// The pieces that a thread begins with: the next in the lower half, where they end in the upper. On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Share(AtomicU64);

/// The threads of a device while a plan runs.
pub struct Team {
    /// Read by whoever has taken a piece, written while there are none.
    job: UnsafeCell<Option<*const Job<'static>>>,
    shares: Box<[Share]>,
    /// Pieces that are not done.
    undone: AtomicUsize,
    /// The first panic of a piece.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    over: AtomicBool,
}

// SAFETY: `job` is what is not `Sync` by itself. It is written by the one thread that leads, while no piece is to be had, and
// read after a piece was taken: the release and acquire of its share lie between. What it points to is `Sync`, and lives until
// the leader has seen all pieces done.
unsafe impl Sync for Team {}
// SAFETY: as above.
unsafe impl Send for Team {}

thread_local!(static LED: Cell<*const Team> = const { Cell::new(std::ptr::null()) });

/// Ends what [`Team::lead`] began, however that ends.
struct Leading<'a>(&'a Team);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        LED.set(std::ptr::null());
        self.0.over.store(true, Ordering::Release);
    }
}

impl Team {
    /// Of so many threads.
    pub fn new(threads: usize) -> Self {
        Self {
            job: UnsafeCell::new(None),
            shares: (0..threads).map(|_| Share::default()).collect(),
            undone: AtomicUsize::new(0),
            panic: Mutex::new(None),
            over: AtomicBool::new(true),
        }
    }

    /// Makes it ready: before its threads are called.
    pub fn begin(&self) {
        self.over.store(false, Ordering::Release);
    }

    /// Runs `f` on this thread, whose calls of [`each`] the team then shares. One thread leads at a time.
    pub fn lead<R>(&self, f: impl FnOnce() -> R) -> R {
        let _leading = Leading(self);
        LED.set(self);
        f()
    }

    /// Does pieces on this thread, number `own`, until what leads is over.
    pub fn help(&self, own: usize) {
        let mut looks = 0;
        while !self.over.load(Ordering::Acquire) {
            if self.work(own) {
                looks = 0;
            } else {
                wait(&mut looks);
            }
        }
    }

    /// Does what pieces there are, its own share first; tells whether there were any.
    fn work(&self, own: usize) -> bool {
        let mut any = false;
        for i in 0..self.shares.len() {
            let Share(share) = &self.shares[(own + i) % self.shares.len()];
            let is_there = |v: u64| (v as u32) < (v >> 32) as u32;
            while is_there(share.load(Ordering::Relaxed)) {
                let taken = share.fetch_add(1, Ordering::AcqRel);
                if is_there(taken) {
                    any = true;
                    self.piece(taken as u32 as usize);
                }
            }
        }
        any
    }

    fn piece(&self, i: usize) {
        // SAFETY: a piece was taken, so the job is there and stays until it is done.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*self.job.get()).map(|job| (*job)(i)) }));
        if let (Err(panic), Ok(mut first)) = (done, self.panic.lock()) {
            first.get_or_insert(panic);
        }
        self.undone.fetch_sub(1, Ordering::Release);
    }

    /// Calls `f(i)` for each `i` in `0..n`, on all of the team.
    fn run(&self, n: u32, f: &Job<'_>) {
        // SAFETY: no piece is to be had, so nobody reads; the lifetime is that of this call, which waits for all pieces.
        unsafe { *self.job.get() = Some(std::mem::transmute::<&Job<'_>, &'static Job<'static>>(f)) };
        self.undone.store(n as usize, Ordering::Relaxed);
        let threads = self.shares.len() as u64;
        for (i, Share(share)) in (0..).zip(&self.shares) {
            let (from, end) = (u64::from(n) * i / threads, u64::from(n) * (i + 1) / threads);
            share.store(end << 32 | from, Ordering::Release);
        }
        self.work(0);
        let mut looks = 0;
        while self.undone.load(Ordering::Acquire) > 0 {
            wait(&mut looks);
        }
        let panic = self.panic.lock().map_or(None, |mut first| first.take());
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

fn wait(looks: &mut usize) {
    *looks += 1;
    if looks.is_multiple_of(LOOKS) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Calls `f(i)` for each `i` in `0..n` on the team that this thread leads; tells if there is none.
pub fn each(n: usize, f: &Job<'_>) -> bool {
    // More pieces than a share can count are nobody's.
    let (team, Ok(n)) = (LED.get(), i32::try_from(n)) else { return false };
    if team.is_null() {
        return false;
    }
    // A piece that has pieces of its own shares them with nobody.
    LED.set(std::ptr::null());
    struct Back(*const Team);
    impl Drop for Back {
        fn drop(&mut self) {
            LED.set(self.0);
        }
    }
    let _back = Back(team);
    // SAFETY: `lead` has it, for as long as it is named there.
    unsafe { (*team).run(n as u32, f) };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `f` on a team of `threads`.
    fn with<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> std::thread::Result<R> {
        let team = Team::new(threads);
        team.begin();
        std::thread::scope(|scope| {
            let team = &team;
            (1..threads).for_each(|i| drop(scope.spawn(move || team.help(i))));
            scope.spawn(move || team.lead(f)).join()
        })
    }

    #[test]
    fn every_piece_is_done_once_launch_after_launch() {
        for threads in [1, 2, 3, 7] {
            let counts: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            let ran = with(threads, || {
                for n in (0..2000).map(|round| round % 101) {
                    let before: usize = counts.iter().map(|c| c.load(Ordering::Relaxed)).sum();
                    assert!(each(n, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    }));
                    let after: usize = counts.iter().map(|c| c.load(Ordering::Relaxed)).sum();
                    assert_eq!(after - before, n);
                }
            });
            assert!(ran.is_ok());
            assert!((0..100).all(|i| {
                counts[i].load(Ordering::Relaxed) == (0..2000).filter(|round| round % 101 > i).count()
            }));
        }
    }

    #[test]
    fn a_panic_of_a_piece_is_the_leaders_and_pieces_of_pieces_are_not_shared() {
        let ran = with(3, || {
            let inner = AtomicUsize::new(0);
            assert!(each(8, &|_| {
                inner.fetch_add(usize::from(each(4, &|_| {})), Ordering::Relaxed);
            }));
            assert_eq!(inner.into_inner(), 0);
            each(50, &|i| assert!(i != 17, "piece {i}"));
        });
        let why = ran.unwrap_err();
        assert_eq!(why.downcast_ref::<String>().map(String::as_str), Some("piece 17"));
        assert!(!each(3, &|_| {}), "nobody leads here");
    }
}
