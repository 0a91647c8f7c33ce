//! Which memory a GPU driver has page-locked: its cards access it directly, so the pages must stay
//! where they are.
//!
//! The drivers are asked by address, because a program may lock any part of a block, with or
//! without torch. Only drivers that the program has loaded are asked, with a call that neither
//! starts the driver nor creates a context. A driver that is not loaded has locked nothing.

use std::ffi::{c_int, c_uint, c_void};
use std::mem;
use std::ops::Range;
use std::ptr;

use crate::system::libraries::{self, Library};
use crate::system::page_size;

/// The loaded drivers that may have locked memory of this process.
#[derive(Debug)]
pub struct PageLocks {
    drivers: Vec<Driver>,
}

impl PageLocks {
    /// Finds the drivers that are loaded now. Takes some microseconds; nothing is loaded or
    /// started.
    ///
    /// A driver that is loaded later is missing here, so look again where it matters.
    #[must_use]
    pub fn now() -> Self {
        Self { drivers: Driver::all() }
    }

    /// Whether no loaded driver could have locked anything.
    #[must_use]
    pub fn are_impossible(&self) -> bool {
        self.drivers.is_empty()
    }

    /// Whether any page of the range is locked, or a driver gives no clear answer.
    ///
    /// Asks about every page, since a lock may cover any part. A page takes 4 ns of our own time,
    /// and 1.3 us of NVIDIA's driver 580 on an H200; a driver that is not in use is asked only
    /// once. Memory of a card counts as locked too. It misses what another thread locks after its
    /// page was asked about. It also misses a lock of less than a page that does not touch the
    /// page's first byte, if the driver does not round locks to pages.
    #[must_use]
    pub fn is_locked(&self, range: Range<usize>) -> bool {
        self.drivers.iter().any(|driver| driver.has_locked(range.clone()))
    }
}

/// What a driver says about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It knows the address: locked, managed, or its own.
    Known,
    /// Ordinary memory.
    Unknown,
    /// The driver was not started or has no card, so it cannot have locked anything.
    Asleep,
    /// Anything else.
    Unclear,
}

#[derive(Debug)]
struct Driver {
    question: Question,
    /// Keeps the function above valid, and is dropped after it.
    _library: Library,
}

/// `cuPointerGetAttribute`: where to write, the attribute, the address.
type CudaQuestion = unsafe extern "system" fn(*mut c_void, c_int, u64) -> c_int;
/// `hsa_amd_pointer_info`: the address, where to write, and three pointers that may be null.
type RocmQuestion = unsafe extern "C" fn(
    *const c_void,
    *mut PointerInfo,
    *const c_void,
    *mut u32,
    *mut c_void,
) -> c_int;

#[derive(Clone, Copy, Debug)]
enum Question {
    Cuda(CudaQuestion),
    /// From the runtime below HIP: HIP's own function would start HIP.
    Rocm(RocmQuestion),
    /// The library is loaded but has no such function.
    None,
}

impl Driver {
    fn all() -> Vec<Self> {
        let loaded = |name: Option<&str>| name.map(Library::named).unwrap_or_default().into_iter();
        let cuda = loaded(libraries::CUDA).map(Self::cuda);
        cuda.chain(loaded(libraries::ROCM).map(Self::rocm)).collect()
    }

    fn cuda(library: Library) -> Self {
        let question = match library.function(c"cuPointerGetAttribute") {
            // SAFETY: the driver documents the function of this name with exactly this signature,
            // and has not changed it since CUDA 4.
            Some(function) => Question::Cuda(unsafe {
                mem::transmute::<*mut c_void, CudaQuestion>(function.as_ptr())
            }),
            None => Question::None,
        };
        Self { question, _library: library }
    }

    fn rocm(library: Library) -> Self {
        let question = match library.function(c"hsa_amd_pointer_info") {
            // SAFETY: ROCr documents the function of this name with exactly this signature; the
            // allocator, which is a function pointer there, may be null.
            Some(function) => Question::Rocm(unsafe {
                mem::transmute::<*mut c_void, RocmQuestion>(function.as_ptr())
            }),
            None => Question::None,
        };
        Self { question, _library: library }
    }

    fn has_locked(&self, range: Range<usize>) -> bool {
        let page = page_size();
        let mut address = range.start;
        while address < range.end {
            match self.question.ask(address) {
                Answer::Known | Answer::Unclear => return true,
                Answer::Asleep => return false,
                Answer::Unknown => {}
            }
            let Some(next) = (address & !(page - 1)).checked_add(page) else { return false };
            address = next;
        }
        false
    }
}

impl Question {
    fn ask(self, address: usize) -> Answer {
        match self {
            Self::Cuda(function) => {
                let mut memory_type: c_uint = 0;
                // SAFETY: the library is held loaded by the driver's row. The call reads nothing at
                // the address, which is a number to it, and writes one `unsigned int` for this
                // attribute.
                let code = unsafe {
                    function((&raw mut memory_type).cast(), CUDA_MEMORY_TYPE, address as u64)
                };
                cuda_answer(code)
            }
            Self::Rocm(function) => {
                let mut info = PointerInfo::default();
                // SAFETY: the library is held loaded by the driver's row. The call reads nothing at
                // the address, and writes no more of the structure than the size in it says.
                let code = unsafe {
                    function(
                        ptr::without_provenance(address),
                        &mut info,
                        ptr::null(),
                        ptr::null_mut(),
                        ptr::null_mut(),
                    )
                };
                rocm_answer(code, info.kind)
            }
            Self::None => Answer::Unclear,
        }
    }
}

/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`.
const CUDA_MEMORY_TYPE: c_int = 2;

/// The codes of `CUresult`.
fn cuda_answer(code: c_int) -> Answer {
    match code {
        0 => Answer::Known,
        // INVALID_VALUE: not a pointer that it knows.
        1 => Answer::Unknown,
        // NOT_INITIALIZED, DEINITIALIZED, STUB_LIBRARY, NO_DEVICE.
        3 | 4 | 34 | 100 => Answer::Asleep,
        _ => Answer::Unclear,
    }
}

/// The start of `hsa_amd_pointer_info_t`, which can only grow, with room for later members.
#[repr(C)]
struct PointerInfo {
    size: u32,
    kind: c_int,
    rest: [u64; 6],
}

impl Default for PointerInfo {
    fn default() -> Self {
        Self { size: size_of::<Self>() as u32, kind: 0, rest: [0; 6] }
    }
}

/// The codes of `hsa_status_t`, and of `hsa_amd_pointer_type_t`.
fn rocm_answer(code: c_int, kind: c_int) -> Answer {
    match (code, kind) {
        // "Unallocated or unlocked system memory."
        (0, 0) => Answer::Unknown,
        (0, _) => Answer::Known,
        // NOT_INITIALIZED.
        (0x100b, _) => Answer::Asleep,
        _ => Answer::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_driver_has_no_page_locks() {
        let locks = PageLocks::now();
        assert!(locks.are_impossible());
        assert!(!locks.is_locked(0..usize::MAX));
    }

    #[test]
    fn what_is_not_clearly_unlocked_counts_as_locked() {
        for (code, answer) in [
            (0, Answer::Known),
            (1, Answer::Unknown),
            (3, Answer::Asleep),
            (100, Answer::Asleep),
            (201, Answer::Unclear),
            (999, Answer::Unclear),
        ] {
            assert_eq!(cuda_answer(code), answer, "{code}");
        }
        for (code, kind, answer) in [
            (0, 0, Answer::Unknown),
            (0, 2, Answer::Known),
            (0x100b, 0, Answer::Asleep),
            (0x1000, 0, Answer::Unclear),
        ] {
            assert_eq!(rocm_answer(code, kind), answer, "{code} {kind}");
        }
        assert_eq!(Question::None.ask(4096), Answer::Unclear);
    }
}
