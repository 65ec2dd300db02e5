//! Commands are recorded into one pass and submitted together, when somebody
//! reads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::buffer::{Buffer, Pool};
use super::device::Opened;
use super::kernels::{Kernel, KernelId};
use crate::DeviceError;

/// Bytes of the ring of parameters; a submission holds as many dispatches as
/// fit.
const RING: u64 = 1 << 18;
/// Distance of two dispatches' parameters: WebGPU's default alignment.
const STEP: u64 = 256;
/// Bind groups that are kept.
const MAX_BIND_GROUPS: usize = 4096;
/// Most workgroups along one axis of a dispatch.
const MAX_GROUPS: u32 = 65_535;

/// What identifies a pipeline: the kernel and its specialisation.
type PipelineKey = (KernelId, u32);
/// What identifies a bind group: how many inputs, then every buffer.
type BindKey = [u64; 6];

struct Pending {
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    parameters: Vec<u8>,
}

pub(super) struct Recorder {
    pub(super) opened: Opened,
    pub(super) pool: Rc<Pool>,
    ring: wgpu::Buffer,
    /// Bound where a kernel has an input that is not there.
    nothing: Buffer,
    layouts: Vec<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    pipelines: RefCell<HashMap<PipelineKey, wgpu::ComputePipeline>>,
    bind_groups: RefCell<HashMap<BindKey, wgpu::BindGroup>>,
    pending: RefCell<Option<Pending>>,
}

/// One dispatch.
pub(super) struct Dispatch<'a> {
    pub(super) kernel: &'static Kernel,
    /// Bits that choose the specialisation.
    pub(super) variant: u32,
    /// Read-only buffers; an absent one is bound to nothing.
    pub(super) inputs: &'a [Option<&'a Buffer>],
    pub(super) output: &'a Buffer,
    /// At most 16 numbers, as the kernel's `Parameters` has them.
    pub(super) parameters: &'a [u32],
    /// Workgroups along x, y and z. More than fit along x are folded into y
    /// by kernels that say so.
    pub(super) groups: (u32, u32, u32),
}

fn layout(device: &wgpu::Device, inputs: u32) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: binding == 0,
            min_binding_size: None,
        },
        count: None,
    };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
    for binding in 1..=inputs + 1 {
        let read_only = binding <= inputs;
        entries.push(entry(
            binding,
            wgpu::BufferBindingType::Storage { read_only },
        ));
    }
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &entries,
    });
    let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    (group, pipeline)
}

/// Folds a count of workgroups into two axes.
pub(super) fn folded(groups: u32) -> (u32, u32, u32) {
    let rows = groups.div_ceil(MAX_GROUPS).max(1);
    (groups.div_ceil(rows).max(1), rows, 1)
}

impl Recorder {
    pub(super) fn new(opened: Opened) -> Result<Self, DeviceError> {
        let device = &opened.device;
        let pool = Pool::new(device);
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: RING,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let layouts = (0..=4).map(|inputs| layout(device, inputs)).collect();
        let nothing = pool.take(16, true)?;
        Ok(Self {
            ring,
            nothing,
            layouts,
            pipelines: RefCell::default(),
            bind_groups: RefCell::default(),
            pending: RefCell::default(),
            pool,
            opened,
        })
    }

    fn pipeline(&self, kernel: &'static Kernel, variant: u32) -> wgpu::ComputePipeline {
        let key = (kernel.id, variant);
        if let Some(pipeline) = self.pipelines.borrow().get(&key) {
            return pipeline.clone();
        }
        let device = &self.opened.device;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.source.into()),
        });
        let constants: Vec<(&str, f64)> = kernel
            .constants
            .iter()
            .enumerate()
            .map(|(i, &name)| (name, f64::from(variant >> (8 * i) & 0xff)))
            .collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&self.layouts[kernel.inputs].1),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                ..Default::default()
            },
            cache: None,
        });
        self.pipelines.borrow_mut().insert(key, pipeline.clone());
        pipeline
    }

    fn bind_group(&self, inputs: &[Option<&Buffer>], output: &Buffer) -> wgpu::BindGroup {
        let buffers: Vec<&Buffer> = inputs
            .iter()
            .map(|input| input.unwrap_or(&self.nothing))
            .chain([output])
            .collect();
        let mut key: BindKey = [0; 6];
        key[0] = inputs.len() as u64;
        for (slot, buffer) in key[1..].iter_mut().zip(&buffers) {
            *slot = buffer.raw().id;
        }
        let mut kept = self.bind_groups.borrow_mut();
        if let Some(group) = kept.get(&key) {
            return group.clone();
        }
        if kept.len() >= MAX_BIND_GROUPS {
            kept.clear();
        }
        let parameters = wgpu::BufferBinding {
            buffer: &self.ring,
            offset: 0,
            size: wgpu::BufferSize::new(64),
        };
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(parameters),
        }];
        for (i, buffer) in buffers.iter().enumerate() {
            entries.push(wgpu::BindGroupEntry {
                binding: i as u32 + 1,
                resource: buffer.raw().buffer.as_entire_binding(),
            });
        }
        let group = self
            .opened
            .device
            .create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.layouts[inputs.len()].0,
                entries: &entries,
            });
        kept.insert(key, group.clone());
        group
    }

    /// Records a dispatch.
    pub(super) fn dispatch(&self, dispatch: &Dispatch<'_>) -> Result<(), DeviceError> {
        self.opened.fault.check()?;
        let full = |pending: &Pending| pending.parameters.len() as u64 >= RING;
        if self.pending.borrow().as_ref().is_some_and(full) {
            self.submit(|_| {});
        }
        let pipeline = self.pipeline(dispatch.kernel, dispatch.variant);
        let group = self.bind_group(dispatch.inputs, dispatch.output);
        let mut pending = self.pending.borrow_mut();
        let pending = pending.get_or_insert_with(|| self.begin());
        let offset = pending.parameters.len();
        pending
            .parameters
            .extend(bytemuck::cast_slice::<u32, u8>(dispatch.parameters));
        pending.parameters.resize(offset + STEP as usize, 0);
        let pass = pending.pass.get_or_insert_with(|| {
            let descriptor = wgpu::ComputePassDescriptor::default();
            pending
                .encoder
                .begin_compute_pass(&descriptor)
                .forget_lifetime()
        });
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[offset as u32]);
        let (x, y, z) = dispatch.groups;
        pass.dispatch_workgroups(x, y, z);
        Ok(())
    }

    fn begin(&self) -> Pending {
        let descriptor = wgpu::CommandEncoderDescriptor::default();
        Pending {
            encoder: self.opened.device.create_command_encoder(&descriptor),
            pass: None,
            parameters: Vec::new(),
        }
    }

    /// Submits what is recorded, and `last` after it.
    fn submit(&self, last: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let mut pending = self
            .pending
            .borrow_mut()
            .take()
            .unwrap_or_else(|| self.begin());
        drop(pending.pass.take());
        last(&mut pending.encoder);
        let queue = &self.opened.queue;
        queue.write_buffer(&self.ring, 0, &pending.parameters);
        queue.submit([pending.encoder.finish()]);
        self.pool.epoch.set(self.pool.epoch.get() + 1);
    }

    /// Copies bytes to the device, to stay there.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<Buffer, DeviceError> {
        self.opened.fault.check()?;
        let buffer = self.pool.keep(bytes.len() as u64)?;
        self.opened
            .queue
            .write_buffer(&buffer.raw().buffer, 0, bytes);
        Ok(buffer)
    }

    /// Copies bytes to the device.
    pub(super) fn upload(&self, bytes: &[u8]) -> Result<Buffer, DeviceError> {
        self.opened.fault.check()?;
        let buffer = self.pool.take(bytes.len() as u64, true)?;
        // Written before everything recorded is submitted, which is why the
        // buffer is fresh.
        self.opened
            .queue
            .write_buffer(&buffer.raw().buffer, 0, bytes);
        Ok(buffer)
    }

    /// Submits, waits and copies `len` numbers back.
    pub(super) async fn read(&self, buffer: &Buffer, len: usize) -> Result<Vec<f32>, DeviceError> {
        self.opened.fault.check()?;
        let bytes = (len * 4) as u64;
        let device = &self.opened.device;
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read"),
            size: bytes.max(4),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.submit(|encoder| {
            encoder.copy_buffer_to_buffer(&buffer.raw().buffer, 0, &staging, 0, bytes);
        });
        let (send, receive) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
            // Nobody listens any more where the reader was dropped.
            let _ = send.send(mapped);
        });
        // In the browser the event loop does this.
        let lost = |why: &dyn std::fmt::Display| DeviceError::Lost(why.to_string());
        device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| lost(&e))?;
        let mapped = receive.await.map_err(|e| lost(&e))?;
        self.opened.fault.check()?;
        mapped.map_err(|e| lost(&e))?;
        let view = staging.get_mapped_range(..).map_err(|e| lost(&e))?;
        Ok(bytemuck::pod_collect_to_vec(&view[..]))
    }
}
