//! Where in a frame its references lie.

use pyo3::prelude::*;

use crate::object::word;
use crate::table::OutOfMemory;

/// Bits of a variable's word that say how it is held, from 3.14 on. Without them the frame holds
/// a reference of its own; before, they are zero in every address of an object.
const BORROWED: usize = 3;

/// Offsets of a frame's references, in words. On an interpreter where they are not found, the
/// references of frames explain nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameLayout {
    /// The word of the frame object that points to the rest; `None` where it is the object itself (3.10).
    inner: Option<isize>,
    /// The first variable.
    variables: isize,
    /// The running function; 3.10 has none.
    function: Option<isize>,
    /// The dictionary of a frame whose variables are kept in one.
    namespace: Option<isize>,
    /// The global variables, where the frame holds a reference to them (3.10).
    globals: Option<isize>,
}

/// The word of a frame object that points to the interpreter's own frame, since 3.11.
const INNER_WORD: isize = 3;
/// Words that every frame has: the function, the global variables and the dictionary lie among them.
const HEAD: isize = 8;
/// How many variables the trial frame must have, and how many words are searched for the first one.
const LOOKED_AT: isize = 24;
/// The same on 3.10, where the block stack lies before the variables.
const BEFORE_VARIABLES: isize = 48;

impl FrameLayout {
    /// Looks at the frame of a suspended generator with the variables `values`, and at one that ran
    /// with the variables of `namespace`. `None` where they lie in no known place.
    pub(crate) fn of(
        frame: &Bound<'_, PyAny>,
        values: &[usize],
        function: usize,
        named: &Bound<'_, PyAny>,
        namespace: usize,
    ) -> Option<Self> {
        let version = frame.py().version_info();
        // The word is followed before it can be compared, so only on versions where it is known.
        if version > (3, 14, u8::MAX) || values.len() < LOOKED_AT as usize {
            return None;
        }
        let inner = (version >= (3, 11)).then_some(INNER_WORD);
        let find = |frame: &Bound<'_, PyAny>, words: std::ops::Range<isize>, object: usize| {
            let start = start(frame.as_ptr() as usize, inner);
            words.into_iter().find(|&at| {
                // SAFETY: every frame has a head, and the trial frame has at least as many variables
                // as words are searched beyond what lies before them.
                unsafe { word(start, at) & !BORROWED == object }
            })
        };
        let most = if inner.is_none() { BEFORE_VARIABLES } else { LOOKED_AT };
        let variables = find(frame, 0..most, *values.first()?)?;
        let begin = start(frame.as_ptr() as usize, inner);
        let all = (variables..).zip(values).all(|(at, &value)| {
            // SAFETY: the frame has as many variables as values were given.
            unsafe { word(begin, at) & !BORROWED == value }
        });
        let old = inner.is_none();
        let globals = if old {
            let globals = frame.getattr("f_globals").ok()?.as_ptr() as usize;
            find(frame, 2..HEAD, globals)
        } else {
            None
        };
        all.then_some(Self {
            inner,
            variables,
            function: if old { None } else { find(frame, 0..HEAD, function) },
            namespace: find(named, 0..HEAD, namespace),
            globals,
        })
    }

    /// Calls `each` for every reference that a frame holds.
    ///
    /// # Safety
    /// `frame` is a live frame object with at least this many variables, the interpreter lock is held,
    /// and this layout was found on this interpreter.
    pub(super) unsafe fn each_reference(
        &self,
        frame: usize,
        variables: usize,
        mut each: impl FnMut(usize) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        let start = start(frame, self.inner);
        let others = [self.function, self.namespace, self.globals].into_iter().flatten();
        let all = (self.variables..).take(variables).chain(others);
        for at in all {
            // SAFETY: the caller's promise.
            let held = unsafe { word(start, at) };
            if held != 0 && held & BORROWED == 0 {
                each(held)?;
            }
        }
        Ok(())
    }

    /// The object in each place of a frame's variables, owned or borrowed; 0 where there is none.
    ///
    /// # Safety
    /// As for [`FrameLayout::each_reference`].
    pub(super) unsafe fn values(&self, frame: usize, variables: usize) -> Vec<usize> {
        let start = start(frame, self.inner);
        let places = (self.variables..).take(variables);
        // SAFETY: the caller's promise.
        let words = places.map(|at| unsafe { word(start, at) });
        // The other two values of these bits mark what is no object.
        words.map(|held| if held & BORROWED > 1 { 0 } else { held & !BORROWED }).collect()
    }

    /// Whether an argument that is also in a cell has two places (3.10) or one.
    pub(super) fn cells_have_places_of_their_own(&self) -> bool {
        self.inner.is_none()
    }
}

fn start(frame: usize, inner: Option<isize>) -> usize {
    match inner {
        // SAFETY: since 3.11 this word of a frame object points to the interpreter's frame, which
        // lives as long as it.
        Some(at) => unsafe { word(frame, at) },
        None => frame,
    }
}
