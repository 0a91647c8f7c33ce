//! Accelerators, as their drivers describe them. None of this creates a device context.

#[cfg(target_os = "linux")]
pub(crate) mod amdgpu;
#[cfg(any(target_os = "linux", windows))]
pub(crate) mod nvml;
#[cfg(target_os = "linux")]
pub(crate) mod own_pid;
pub(crate) mod page_locks;
#[cfg(any(target_os = "linux", windows))]
mod pci;
pub(crate) mod view;
