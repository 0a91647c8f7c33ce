//! Accelerators, as their drivers tell. None of this creates a device context.

#[cfg(target_os = "linux")]
pub(crate) mod amdgpu;
#[cfg(any(target_os = "linux", windows))]
pub(crate) mod nvml;
#[cfg(any(target_os = "linux", windows))]
mod pci;
