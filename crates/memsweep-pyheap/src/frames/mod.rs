//! Frames, read where they lie.
//!
//! Asking a frame for `f_locals` would, before Python 3.13, store a snapshot on the frame, which clears
//! what `exec` put there and keeps every variable alive; and on 3.14 it does not say which variables
//! are only borrowed. Where a frame keeps its variables is found by looking at frames of our own.

mod layout;
mod variables;
mod waiting;

pub(crate) use self::layout::FrameLayout;
pub(crate) use self::variables::{places, variables};
pub(crate) use self::waiting::Waiting;
pub use self::waiting::WaitsHere;
