//! Whether a library with locks of its own may still be called after a fork.
//!
//! A child that was forked while another thread was inside such a library inherits locks that are
//! never released. It must not call the library, or it hangs.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// The calls into one library that are in progress.
#[derive(Debug)]
pub(super) struct Calls {
    /// The process whose calls are counted; 0 before the first call.
    process: AtomicU32,
    under_way: AtomicU32,
}

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct Entered<'a>(&'a Calls);

impl Calls {
    pub(super) const fn new() -> Self {
        Self { process: AtomicU32::new(0), under_way: AtomicU32::new(0) }
    }

    /// Always `None` in a child that was forked during a call.
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        self.enter_as(process::id())
    }

    fn enter_as(&self, own: u32) -> Option<Entered<'_>> {
        let counted = self.process.load(SeqCst);
        if counted != own {
            // None of our own calls is in progress before the process id was stored.
            if self.under_way.load(SeqCst) > 0 && self.process.load(SeqCst) == counted {
                return None;
            }
            self.process.store(own, SeqCst);
        }
        self.under_way.fetch_add(1, SeqCst);
        Some(Entered(self))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_asks_unless_it_was_forked_during_a_call() {
        let calls = Calls::new();
        drop(calls.enter_as(1));
        let parent = calls.enter_as(1);
        assert!(parent.is_some());
        assert!(calls.enter_as(1).is_some(), "another thread of the same process");
        assert!(calls.enter_as(2).is_none(), "a child forked now");
        drop(parent);
        assert!(calls.enter_as(3).is_some(), "a child forked after the call");
    }
}
