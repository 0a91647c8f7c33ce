//! What `tp_traverse` does not report: gradients and bases of tensors, bases and elements of arrays, and
//! the memory that an object owns.
//!
//! torch and numpy are never imported here. When they are loaded, their C getters are called and
//! numpy's public structure is read. None of that runs Python code or gives up the interpreter lock.
//! A getter that fails means one edge less, never an error.

mod numpy;
mod torch;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};

use crate::object::{is_subtype, type_of};
use crate::table::OutOfMemory;
use crate::visitor::Via;

use self::numpy::Arrays;
pub(crate) use self::torch::{Quiet, Tensors};

/// Memory that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Its first byte.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
    /// Where the allocation that it lies in begins.
    pub start: usize,
}

/// What is known of the memory behind an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holding {
    /// The object's library allocated it, and nobody else frees it.
    Own(Memory),
    /// Somebody else's: a file, shared memory, another library.
    Foreign(Memory),
}

/// The block of memory behind a tensor or an array, whoever owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its device, as torch writes it.
    pub device: String,
    /// Its first byte on that device.
    pub address: usize,
    /// Its length.
    pub bytes: usize,
}

/// Types whose traversal leaves references out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// None that we know of.
    Nothing,
    /// Gradient and base of a torch tensor.
    Tensor,
    /// Base and elements of a numpy array.
    Array,
}

/// A reference that no traversal reports.
pub(crate) struct Edge<'py> {
    pub(crate) via: Via,
    pub(crate) target: Target<'py>,
}

/// An object that a getter found, and how its owner holds it.
pub(crate) enum Target<'py> {
    /// One Python reference that the owner holds.
    Reference(usize),
    /// Reached, and who holds it is not known: explains nothing.
    Reached(usize),
    /// The owner holds the C++ object only; the reference is the getter's.
    Silent(Bound<'py, PyAny>),
}

/// The getters of the loaded libraries.
pub(crate) struct Getters<'py> {
    tensors: Option<Tensors<'py>>,
    arrays: Option<Arrays<'py>>,
}

impl<'py> Getters<'py> {
    /// Looks for the libraries among the loaded modules.
    ///
    /// # Errors
    /// `RuntimeError` when numpy's arrays are not laid out as documented, and any other error on the
    /// way: without the getters, what tensors and arrays hold could not be protected.
    pub(crate) fn find(modules: &Bound<'py, PyDict>) -> PyResult<Self> {
        let tensors = match Tensors::find(modules) {
            // Not fully imported, so no tensor exists.
            Err(error) if error.is_instance_of::<PyAttributeError>(modules.py()) => None,
            found => found?,
        };
        Ok(Self { tensors, arrays: Arrays::find(modules)? })
    }

    /// Finds out how torch counts its C++ owners, for questions about reference counts.
    pub(crate) fn try_owners(&mut self, modules: &Bound<'py, PyDict>) {
        let _quiet = self.quiet();
        if let Some(tensors) = &mut self.tensors {
            tensors.try_owners(modules);
        }
    }

    pub(crate) fn tensors(&self) -> Option<&Tensors<'py>> {
        self.tensors.as_ref()
    }

    /// While this is alive, getters do not call into Python subclasses of tensors.
    pub(crate) fn quiet(&self) -> Option<Quiet<'py>> {
        self.tensors.as_ref()?.quiet()
    }

    /// What instances of a type hold beside what their traversal reports.
    ///
    /// # Safety
    /// `class` is a live type object and the interpreter lock is held.
    pub(crate) unsafe fn of_type(&self, class: usize) -> Foreign {
        // SAFETY: `class` is the caller's promise; the other is a class that the getters keep alive.
        let is = |base: Option<usize>| base.is_some_and(|base| unsafe { is_subtype(class, base) });
        if is(self.tensors.as_ref().map(Tensors::class)) {
            Foreign::Tensor
        } else if is(self.arrays.as_ref().map(Arrays::class)) {
            Foreign::Array
        } else {
            Foreign::Nothing
        }
    }

    fn of(&self, object: &Bound<'py, PyAny>) -> Foreign {
        // SAFETY: a bound object is alive, and so is its type.
        unsafe { self.of_type(type_of(object.as_ptr() as usize)) }
    }

    /// Calls `each` for what an object holds beside what its traversal reports; `kind` is its type's.
    pub(crate) fn edges(
        &self,
        kind: Foreign,
        object: &Bound<'py, PyAny>,
        each: &mut dyn FnMut(Edge<'py>) -> Result<(), OutOfMemory>,
    ) -> Result<(), OutOfMemory> {
        match (kind, &self.tensors, &self.arrays) {
            (Foreign::Tensor, Some(tensors), _) => tensors.edges(object, each),
            (Foreign::Array, _, Some(arrays)) => arrays.edges(object, each),
            _ => Ok(()),
        }
    }

    /// The memory that an object owns, whatever views there are of it. `None` for an object that owns
    /// none, and for one that cannot be asked without running Python code.
    ///
    /// Asks C getters only: the interpreter lock is not given up between a walk and this.
    pub(crate) fn memory(&self, object: &Bound<'py, PyAny>) -> Option<Holding> {
        match self.of(object) {
            Foreign::Tensor => self.tensors.as_ref()?.memory(object),
            Foreign::Array => {
                let bytes = object.py().get_type::<PyBytes>().as_ptr() as usize;
                let byte_array = object.py().get_type::<PyByteArray>().as_ptr() as usize;
                self.arrays.as_ref()?.memory(object, |class| {
                    let tensor = self.tensors.as_ref().map(Tensors::class);
                    let known = [tensor, Some(bytes), Some(byte_array)];
                    // SAFETY: all are live types.
                    known.into_iter().flatten().any(|base| unsafe { is_subtype(class, base) })
                })
            }
            Foreign::Nothing => plain_memory(object).map(Holding::Own),
        }
    }

    /// The block of memory behind a tensor or an array, the same for all that share it. `None` for
    /// any other object, and for one without memory: on the meta device, sparse, wrapped or empty.
    ///
    /// # Errors
    /// As for [`Tensors::place`].
    pub(crate) fn block(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Block>> {
        let block = match (self.of(object), &self.tensors, &self.arrays) {
            (Foreign::Tensor, Some(tensors), _) => tensors
                .place(object)?
                .map(|(device, Memory { address, bytes, .. })| Block { device, address, bytes }),
            (Foreign::Array, _, Some(arrays)) => arrays
                .block(object)
                .map(|(address, bytes)| Block { device: "cpu".to_owned(), address, bytes }),
            _ => None,
        };
        Ok(block.filter(|block| block.bytes > 0))
    }

    /// Whether the object is a tensor that autograd recorded: its graph keeps what a backward pass
    /// needs, which no walk can see.
    pub(crate) fn has_graph(&self, object: &Bound<'py, PyAny>) -> bool {
        let tensors = self.tensors.as_ref().filter(|_| self.of(object) == Foreign::Tensor);
        tensors.is_some_and(|tensors| tensors.has_graph(object))
    }

    /// All the bytes that an array shows, whoever owns them. `None` for anything but an array.
    pub(crate) fn shown_by_array(
        &self,
        object: &Bound<'py, PyAny>,
    ) -> Option<std::ops::Range<usize>> {
        let is_array = self.of(object) == Foreign::Array;
        self.arrays.as_ref().filter(|_| is_array).map(|arrays| arrays.shown(object))
    }
}

/// The content of `bytes` and `bytearray`.
fn plain_memory(object: &Bound<'_, PyAny>) -> Option<Memory> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let content = bytes.as_bytes();
        let address = content.as_ptr() as usize;
        // The content follows the object's head.
        return Some(Memory { address, bytes: content.len(), start: object.as_ptr() as usize });
    }
    let array = object.cast_exact::<PyByteArray>().ok()?;
    let address = array.data() as usize;
    Some(Memory { address, bytes: array.len(), start: address })
}
