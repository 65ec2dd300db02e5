//! Finding an adapter, opening a device, and keeping what goes wrong.

use std::sync::{Arc, Mutex, PoisonError};

use crate::DeviceError;

/// What computes, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The adapter's name, as far as the browser or driver tells it.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub api: String,
    /// Computed by the processor: correct and slow.
    pub software: bool,
}

/// The most memory that is asked for at a time; none is as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes of a buffer that a kernel sees.
    pub binding: Option<u64>,
    /// Bytes of a buffer.
    pub buffer: Option<u64>,
}

/// The first error, kept until somebody asks.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<DeviceError>>>);

impl Fault {
    fn keep(&self, error: DeviceError) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A device that is gone explains everything else.
        let lost = matches!(error, DeviceError::Lost(_));
        if kept.is_none() || lost {
            *kept = Some(error);
        }
    }

    pub(super) fn check(&self) -> Result<(), DeviceError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().map_or(Ok(()), Err)
    }
}

pub(super) struct Opened {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: Info,
    pub(super) fault: Fault,
}

/// What was said of an error; a browser's has no words of its own.
fn said(words: String) -> String {
    if words.starts_with('<') {
        return "the browser says".to_owned();
    }
    words
}

/// Opens the best adapter with its own limits on buffers and the default ones
/// on everything else.
pub(super) async fn open(memory: MemoryLimits) -> Result<Opened, DeviceError> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(descriptor);
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    let adapter = instance
        .request_adapter(&options)
        .await
        .map_err(|error| DeviceError::NoAdapter(error.to_string()))?;
    let about = adapter.get_info();
    let offered = adapter.limits();
    let least = |offered: u64, most: Option<u64>| most.map_or(offered, |most| most.min(offered));
    let limits = wgpu::Limits {
        max_buffer_size: least(offered.max_buffer_size, memory.buffer),
        max_storage_buffer_binding_size: least(
            offered.max_storage_buffer_binding_size,
            memory.binding,
        ),
        ..wgpu::Limits::default()
    };
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("plume"),
            required_limits: limits,
            ..Default::default()
        })
        .await
        .map_err(|error| DeviceError::NoAdapter(error.to_string()))?;

    let fault = Fault::default();
    let errors = fault.clone();
    device.on_uncaptured_error(Arc::new(move |error| {
        errors.keep(match error {
            wgpu::Error::OutOfMemory { source } => {
                DeviceError::OutOfMemory(said(source.to_string()))
            }
            other => DeviceError::Validation(other.to_string()),
        });
    }));
    let lost = fault.clone();
    device.set_device_lost_callback(move |reason, message| {
        // Dropping the device is no accident.
        if reason != wgpu::DeviceLostReason::Destroyed {
            lost.keep(DeviceError::Lost(message));
        }
    });

    let named = format!("{} {}", about.name, about.driver).to_lowercase();
    let software = ["llvmpipe", "swiftshader", "lavapipe", "basic render"]
        .iter()
        .any(|name| named.contains(name));
    let info = Info {
        name: [about.name, about.driver_info]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_else(|| "graphics processor".to_owned()),
        api: format!("{:?}", about.backend),
        software: software || about.device_type == wgpu::DeviceType::Cpu,
    };
    Ok(Opened {
        device,
        queue,
        info,
        fault,
    })
}
