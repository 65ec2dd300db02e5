//! Commands are recorded into one pass and submitted together, when somebody
//! reads.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
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
/// Bytes of a dispatch's parameters, at most.
const PARAMETERS: u64 = 128;
/// Floating-point operations after which what is recorded is submitted, so that
/// the GPU begins early and no submission takes a slow one so long that the
/// system ends it.
const MAX_WORK: u64 = 100_000_000_000;
/// Most workgroups along one axis of a dispatch.
const MAX_GROUPS: u32 = 65_535;

/// Most inputs of a kernel: with the output, the eight storage buffers that
/// every device binds.
const MAX_INPUTS: u32 = 7;

/// What identifies a pipeline: the kernel and its specialisation.
type PipelineKey = (KernelId, u32);
/// What identifies a bind group: how many inputs, then every buffer.
type BindKey = [u64; 9];

/// What has been asked of a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels run.
    pub dispatches: u64,
    /// Times that commands were handed over.
    pub submits: u64,
    /// Buffers, bind groups and pipelines made.
    pub objects: u64,
    /// Floating-point operations of the kernels, nominally.
    pub work: u64,
    /// Bytes read back.
    pub read: u64,
    /// Bytes of all buffers that there are now, those in the pool as well.
    pub held: u64,
}

impl Counters {
    /// What was asked between then and now, and what is held now.
    pub fn since(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches - before.dispatches,
            submits: self.submits - before.submits,
            objects: self.objects - before.objects,
            work: self.work - before.work,
            read: self.read - before.read,
            held: self.held,
        }
    }
}

struct Pending {
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    parameters: Vec<u8>,
    work: u64,
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
    /// Where results are read from, kept for the next read.
    staging: RefCell<Option<wgpu::Buffer>>,
    counters: Cell<Counters>,
}

/// One dispatch.
pub(super) struct Dispatch<'a> {
    pub(super) kernel: &'static Kernel,
    /// Bits that choose the specialisation.
    pub(super) variant: u32,
    /// Read-only buffers; an absent one is bound to nothing.
    pub(super) inputs: &'a [Option<&'a Buffer>],
    pub(super) output: &'a Buffer,
    /// At most 32 numbers, as the kernel's `Parameters` has them.
    pub(super) parameters: &'a [u32],
    /// Workgroups along x, y and z. More than fit along x are folded into y
    /// by kernels that say so.
    pub(super) groups: (u32, u32, u32),
    /// Floating-point operations.
    pub(super) work: u64,
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
        let layouts = (0..=MAX_INPUTS)
            .map(|inputs| layout(device, inputs))
            .collect();
        let nothing = pool.take(16, true)?;
        Ok(Self {
            ring,
            nothing,
            layouts,
            pipelines: RefCell::default(),
            bind_groups: RefCell::default(),
            pending: RefCell::default(),
            staging: RefCell::default(),
            counters: Cell::default(),
            pool,
            opened,
        })
    }

    /// What has been asked so far.
    pub(super) fn counters(&self) -> Counters {
        let counters = self.counters.get();
        Counters {
            objects: counters.objects + self.pool.made.get(),
            held: self.pool.held.get(),
            ..counters
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    fn make_pipeline(&self, kernel: &'static Kernel, variant: u32) -> wgpu::ComputePipeline {
        self.count(|counters| counters.objects += 1);
        let device = &self.opened.device;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(kernel.source.concat().into()),
        });
        let constants: Vec<(&str, f64)> = kernel
            .constants
            .iter()
            .enumerate()
            .map(|(i, &name)| (name, f64::from(variant >> (8 * i) & 0xff)))
            .collect();
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&self.layouts[kernel.inputs].1),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                ..Default::default()
            },
            cache: None,
        })
    }

    fn make_bind_group(&self, buffers: &[&Buffer]) -> wgpu::BindGroup {
        self.count(|counters| counters.objects += 1);
        let parameters = wgpu::BufferBinding {
            buffer: &self.ring,
            offset: 0,
            size: wgpu::BufferSize::new(PARAMETERS),
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
        self.opened
            .device
            .create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.layouts[buffers.len() - 1].0,
                entries: &entries,
            })
    }

    /// Records a dispatch.
    pub(super) fn dispatch(&self, dispatch: &Dispatch<'_>) -> Result<(), DeviceError> {
        self.opened.fault.check()?;
        let full =
            |pending: &Pending| pending.parameters.len() as u64 >= RING || pending.work >= MAX_WORK;
        if self.pending.borrow().as_ref().is_some_and(full) {
            self.submit(|_| {});
        }
        let mut buffers = [&self.nothing; MAX_INPUTS as usize + 1];
        let inputs = dispatch.inputs.len();
        for (slot, input) in buffers.iter_mut().zip(dispatch.inputs) {
            *slot = input.unwrap_or(&self.nothing);
        }
        buffers[inputs] = dispatch.output;
        let buffers = &buffers[..=inputs];
        let mut key: BindKey = [0; MAX_INPUTS as usize + 2];
        key[0] = inputs as u64;
        for (slot, buffer) in key[1..].iter_mut().zip(buffers) {
            *slot = buffer.raw().id;
            self.pool.used(buffer);
        }
        // The caches lend what they hold: a clone of a handle is two calls of
        // the browser.
        let mut pipelines = self.pipelines.borrow_mut();
        let pipeline = pipelines
            .entry((dispatch.kernel.id, dispatch.variant))
            .or_insert_with(|| self.make_pipeline(dispatch.kernel, dispatch.variant));
        let mut bind_groups = self.bind_groups.borrow_mut();
        if bind_groups.len() >= MAX_BIND_GROUPS && !bind_groups.contains_key(&key) {
            bind_groups.clear();
        }
        let group = bind_groups
            .entry(key)
            .or_insert_with(|| self.make_bind_group(buffers));

        let mut pending = self.pending.borrow_mut();
        let pending = pending.get_or_insert_with(|| self.begin());
        let offset = pending.parameters.len();
        pending
            .parameters
            .extend(bytemuck::cast_slice::<u32, u8>(dispatch.parameters));
        pending.parameters.resize(offset + STEP as usize, 0);
        pending.work += dispatch.work;
        let pass = pending.pass.get_or_insert_with(|| {
            let descriptor = wgpu::ComputePassDescriptor::default();
            pending
                .encoder
                .begin_compute_pass(&descriptor)
                .forget_lifetime()
        });
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &*group, &[offset as u32]);
        let (x, y, z) = dispatch.groups;
        pass.dispatch_workgroups(x, y, z);
        self.count(|counters| {
            counters.dispatches += 1;
            counters.work += dispatch.work;
        });
        Ok(())
    }

    fn begin(&self) -> Pending {
        let descriptor = wgpu::CommandEncoderDescriptor::default();
        Pending {
            encoder: self.opened.device.create_command_encoder(&descriptor),
            pass: None,
            parameters: Vec::new(),
            work: 0,
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
        self.count(|counters| counters.submits += 1);
        self.release();
    }

    /// Gives back the memory of weights that nobody holds. Only where no
    /// command is recorded and not submitted.
    fn release(&self) {
        let gone = self.pool.gone();
        if gone.is_empty() {
            return;
        }
        let ids: HashSet<u64> = gone.iter().map(|raw| raw.id).collect();
        let mut bind_groups = self.bind_groups.borrow_mut();
        bind_groups.retain(|key, _| !key[1..].iter().any(|id| ids.contains(id)));
        for raw in gone {
            self.pool.destroy(&raw);
        }
    }

    /// Copies bytes to the device, to stay there.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<Buffer, DeviceError> {
        self.opened.fault.check()?;
        let buffer = self.reserve(bytes.len() as u64)?;
        self.write(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// Room for what stays on the device.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Buffer, DeviceError> {
        if self.pending.borrow().is_none() {
            self.release();
        }
        self.pool.keep(bytes)
    }

    /// Copies bytes to a place in a buffer that no recorded command uses, and
    /// tells how many.
    pub(super) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> u64 {
        let queue = &self.opened.queue;
        queue.write_buffer(&buffer.raw().buffer, offset, bytes);
        bytes.len() as u64
    }

    /// Copies bytes to the device.
    pub(super) fn upload(&self, bytes: &[u8]) -> Result<Buffer, DeviceError> {
        self.opened.fault.check()?;
        let buffer = self.pool.take(bytes.len() as u64, true)?;
        // Written before everything recorded is submitted, which is why the
        // buffer is fresh.
        self.write(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// Submits, waits and copies `len` numbers back.
    pub(super) async fn read(&self, buffer: &Buffer, len: usize) -> Result<Vec<f32>, DeviceError> {
        self.opened.fault.check()?;
        let bytes = (len * 4) as u64;
        let device = &self.opened.device;
        let staging = self.staging(bytes.max(4096));
        self.submit(|encoder| {
            encoder.copy_buffer_to_buffer(&buffer.raw().buffer, 0, &staging, 0, bytes);
        });
        let (send, receive) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, ..bytes.max(4), move |mapped| {
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
        let view = staging
            .get_mapped_range(..bytes.max(4))
            .map_err(|e| lost(&e))?;
        let numbers = bytemuck::pod_collect_to_vec(&view[..len * 4]);
        drop(view);
        staging.unmap();
        self.staging.replace(Some(staging));
        self.count(|counters| counters.read += bytes);
        Ok(numbers)
    }

    /// A buffer of at least so many bytes that the host can read: the last
    /// one, if it is large enough and nobody reads from it now.
    fn staging(&self, bytes: u64) -> wgpu::Buffer {
        if let Some(staging) = self.staging.take().filter(|kept| kept.size() >= bytes) {
            return staging;
        }
        self.count(|counters| counters.objects += 1);
        self.opened.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}
