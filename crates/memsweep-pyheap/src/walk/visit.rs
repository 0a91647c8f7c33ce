//! What `tp_traverse` calls for each child: mark it, and push it if it is new. Nothing else.

use std::ffi::c_void;
use std::os::raw::c_int;

use pyo3::ffi;

use crate::bitmap::Marks;
use crate::object::{Traversal, type_of};
use crate::table::OutOfMemory;
use crate::visitor::{Via, Visitor};

/// What a traversal may touch.
pub(super) struct Sink<M, V> {
    pub(super) marks: M,
    pub(super) visitor: V,
    pub(super) stack: Vec<usize>,
    /// Position of the child to leave out, counted down.
    pub(super) leave_out: usize,
    /// The child that is watched for, and whether it came.
    pub(super) watched: usize,
    pub(super) watched_seen: bool,
    pub(super) frame_type: usize,
    pub(super) out_of_memory: bool,
}

impl<M: Marks, V: Visitor> Sink<M, V> {
    /// Follows a reference that counts. A part of each callback: a call for each reference shows.
    #[inline(always)]
    pub(super) fn meet(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory> {
        self.visitor.edge(child, via)?;
        if self.marks.meet(child)? { self.push(child) } else { Ok(()) }
    }

    /// Follows a reference that explains nothing.
    #[inline(always)]
    pub(super) fn reach(&mut self, child: usize, via: Via) -> Result<(), OutOfMemory> {
        self.visitor.edge(child, via)?;
        if self.marks.mark(child)? { self.push(child) } else { Ok(()) }
    }

    #[inline]
    fn push(&mut self, address: usize) -> Result<(), OutOfMemory> {
        if self.stack.len() == self.stack.capacity() {
            self.stack.try_reserve(self.stack.len().max(1024))?;
        }
        self.stack.push(address);
        Ok(())
    }

    /// The answer to `tp_traverse`: anything but 0 ends the traversal.
    #[inline]
    fn answer(&mut self, outcome: Result<(), OutOfMemory>) -> c_int {
        match outcome {
            Ok(()) => 0,
            Err(OutOfMemory) => {
                self.out_of_memory = true;
                -1
            }
        }
    }
}

/// Follows a reference to a child.
///
/// # Safety
/// `argument` is a `Sink<M, V>` that nothing else uses meanwhile, and `child` is a live object.
pub(super) unsafe extern "C" fn visit<M: Marks, V: Visitor>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: every traversal of a walk passes its own sink, which nothing else uses meanwhile.
    let sink = unsafe { &mut *argument.cast::<Sink<M, V>>() };
    let outcome = sink.meet(child as usize, Via::Traversal);
    sink.answer(outcome)
}

/// As [`visit`], for a reference that explains nothing: the traversal is not one that we know, and an
/// extension may report what it only borrows.
///
/// # Safety
/// `argument` is a `Sink<M, V>` that nothing else uses meanwhile, and `child` is a live object.
pub(super) unsafe extern "C" fn visit_unexplained<M: Marks, V: Visitor>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let sink = unsafe { &mut *argument.cast::<Sink<M, V>>() };
    let outcome = sink.reach(child as usize, Via::Traversal);
    sink.answer(outcome)
}

/// As [`visit`], leaving out one child by its position: a function's globals.
///
/// # Safety
/// `argument` is a `Sink<M, V>` that nothing else uses meanwhile, and `child` is a live object.
pub(super) unsafe extern "C" fn visit_but_one<M: Marks, V: Visitor>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let sink = unsafe { &mut *argument.cast::<Sink<M, V>>() };
    sink.leave_out = sink.leave_out.wrapping_sub(1);
    if sink.leave_out == 0 {
        return 0;
    }
    // SAFETY: the same arguments; the reference above is not used any more.
    unsafe { visit::<M, V>(child, argument) }
}

/// As [`visit`], noticing whether the watched child came.
///
/// # Safety
/// `argument` is a `Sink<M, V>` that nothing else uses meanwhile, and `child` is a live object.
pub(super) unsafe extern "C" fn visit_watching<M: Marks, V: Visitor>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: as in `visit`.
    let sink = unsafe { &mut *argument.cast::<Sink<M, V>>() };
    sink.watched_seen |= child as usize == sink.watched;
    // SAFETY: as above.
    unsafe { visit::<M, V>(child, argument) }
}

/// As [`visit`], and through a frame at once: on 3.10 a suspended generator keeps its variables there.
///
/// # Safety
/// `argument` is a `Sink<M, V>` that nothing else uses meanwhile, and `child` is a live object.
pub(super) unsafe extern "C" fn visit_through_frame<M: Marks, V: Visitor>(
    child: *mut ffi::PyObject,
    argument: *mut c_void,
) -> c_int {
    let sink = argument.cast::<Sink<M, V>>();
    // SAFETY: as in `visit`.
    let frame_type = unsafe { (*sink).frame_type };
    // SAFETY: a child that a traversal reports is alive.
    if unsafe { type_of(child as usize) } == frame_type {
        // SAFETY: the frame type is alive as long as the frame.
        if let Some(traversal) = unsafe { Traversal::of(frame_type) } {
            // SAFETY: as in `visit`.
            let generator = unsafe { (*sink).visitor.begin(child as usize) };
            // SAFETY: the traversal belongs to the frame's type; `visit` takes the same argument.
            unsafe { traversal.run(child as usize, visit::<M, V>, argument) };
            // SAFETY: as in `visit`.
            unsafe { (*sink).visitor.begin(generator) };
        }
    }
    // SAFETY: as above.
    unsafe { visit::<M, V>(child, argument) }
}
