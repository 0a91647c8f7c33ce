//! The visitors that `tp_traverse` calls: they mark and push, and nothing else.

use std::ffi::c_void;
use std::os::raw::c_int;

use pyo3::ffi;

use crate::bitmap::Marks;
use crate::object::{Traversal, type_of};
use crate::table::OutOfMemory;

/// What the visitor may touch.
pub(crate) struct Sink<M> {
    pub(crate) marks: M,
    pub(crate) stack: Vec<usize>,
    /// Position of the child to leave out, counted down; and the child that was watched for.
    pub(crate) leave_out: usize,
    pub(crate) watched: usize,
    pub(crate) watched_seen: bool,
    pub(crate) frame_type: usize,
    pub(crate) out_of_memory: bool,
}

impl<M> Sink<M> {
    /// Puts an object on the stack.
    #[inline]
    pub(crate) fn push(&mut self, address: usize) -> Result<(), OutOfMemory> {
        if self.stack.len() == self.stack.capacity() {
            self.stack.try_reserve(self.stack.len().max(1024))?;
        }
        self.stack.push(address);
        Ok(())
    }

    /// Puts a child on the stack if it is new, and answers as a visitor does: not 0 ends the traversal.
    #[inline]
    fn went(&mut self, new: Result<bool, OutOfMemory>, child: usize) -> c_int {
        let outcome = match new {
            Ok(true) => self.push(child),
            Ok(false) => return 0,
            Err(error) => Err(error),
        };
        self.out_of_memory |= outcome.is_err();
        -c_int::from(outcome.is_err())
    }
}

/// Marks a child and pushes it when it is new.
///
/// # Safety
/// `argument` is a `Sink<M>` that nothing else uses meanwhile, and `child` is a live object.
pub(crate) unsafe extern "C" fn visit<M: Marks>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: every traversal of a walk passes its own `Sink<M>`, not used elsewhere meanwhile.
    let sink = unsafe { &mut *argument.cast::<Sink<M>>() };
    let new = sink.marks.meet(child as usize);
    sink.went(new, child as usize)
}

/// As [`visit`], and the reference explains nothing: whose traversal it is, is not known, and an
/// extension may report what it only borrows.
///
/// # Safety
/// `argument` is a `Sink<M>` that nothing else uses meanwhile, and `child` is a live object.
pub(crate) unsafe extern "C" fn visit_unexplained<M: Marks>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let sink = unsafe { &mut *argument.cast::<Sink<M>>() };
    let new = sink.marks.mark(child as usize);
    sink.went(new, child as usize)
}

/// As [`visit`], leaving out one child by its position: a function's globals.
///
/// # Safety
/// `argument` is a `Sink<M>` that nothing else uses meanwhile, and `child` is a live object.
pub(crate) unsafe extern "C" fn visit_but_one<M: Marks>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let sink = unsafe { &mut *argument.cast::<Sink<M>>() };
    sink.leave_out = sink.leave_out.wrapping_sub(1);
    if sink.leave_out == 0 {
        return 0;
    }
    // SAFETY: the same arguments; the reference above is not used any more.
    unsafe { visit::<M>(child, argument) }
}

/// As [`visit`], noticing whether the watched child came.
///
/// # Safety
/// `argument` is a `Sink<M>` that nothing else uses meanwhile, and `child` is a live object.
pub(crate) unsafe extern "C" fn visit_watching<M: Marks>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let sink = unsafe { &mut *argument.cast::<Sink<M>>() };
    sink.watched_seen |= child as usize == sink.watched;
    // SAFETY: as above.
    unsafe { visit::<M>(child, argument) }
}

/// As [`visit`], and through a frame at once: on 3.10 a suspended generator holds its variables there.
///
/// # Safety
/// `argument` is a `Sink<M>` that nothing else uses meanwhile, and `child` is a live object.
pub(crate) unsafe extern "C" fn visit_through_frame<M: Marks>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let frame_type = unsafe { (*argument.cast::<Sink<M>>()).frame_type };
    // SAFETY: a child that a traversal reports is alive.
    if unsafe { type_of(child as usize) } == frame_type {
        // SAFETY: the frame type is alive as long as the frame.
        if let Some(traversal) = unsafe { Traversal::of(frame_type) } {
            // SAFETY: the traversal belongs to the frame's type; `visit` takes the same argument.
            unsafe { traversal.run(child as usize, visit::<M>, argument) };
        }
    }
    // SAFETY: as above.
    unsafe { visit::<M>(child, argument) }
}
