//! The one place where it is chosen what computes.

use plume_core::gpu::Gpu;
use wasm_bindgen::JsCast;

use crate::protocol::Device;

/// What computes.
pub(super) struct Choice {
    /// The graphics processor, else the CPU computes.
    pub(super) gpu: Option<Gpu>,
    /// Why the CPU computes, where the person might wonder.
    pub(super) note: Option<String>,
}

impl Choice {
    /// The graphics processor where it is wanted and there is one.
    pub(super) async fn of(device: Device) -> Self {
        let (gpu, note) = match device {
            Device::Cpu => (None, None),
            Device::Best | Device::Gpu => match Gpu::new().await {
                Ok(gpu) if gpu.info().software && device == Device::Best => {
                    let note =
                        "There is no graphics processor for WebGPU here, so the CPU computes";
                    (None, Some(note.to_owned()))
                }
                Ok(gpu) => (Some(gpu), None),
                Err(_) if device == Device::Best => (None, None),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        Self { gpu, note }
    }

    /// For a person.
    pub(super) fn name(&self) -> String {
        let Some(gpu) = &self.gpu else {
            return "CPU · WebAssembly SIMD".to_owned();
        };
        let info = gpu.info();
        let slow = if info.software { ", in software" } else { "" };
        format!("WebGPU · {}{slow}", info.name)
    }
}

/// Bytes of memory that WebAssembly holds: it grows and never shrinks.
pub(super) fn memory() -> u32 {
    let memory: js_sys::WebAssembly::Memory = wasm_bindgen::memory().unchecked_into();
    let buffer: js_sys::ArrayBuffer = memory.buffer().unchecked_into();
    buffer.byte_length()
}
