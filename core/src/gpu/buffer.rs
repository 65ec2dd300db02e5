//! Buffers and the pool they return to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use crate::DeviceError;

/// Bytes of a class: sizes are rounded up to four steps between powers of two,
/// so that at most a fifth is wasted.
fn class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (1u64 << bytes.ilog2()) / 4;
    bytes.div_ceil(step) * step
}

/// A buffer of the device with a number of its own.
pub(super) struct Raw {
    pub(super) buffer: wgpu::Buffer,
    pub(super) id: u64,
    bytes: u64,
    /// The submission whose commands last used it.
    epoch: Cell<u64>,
    /// Made for one tensor that stays, and given up with it.
    kept: bool,
}

/// Numbers on the device. The last clone that goes returns them to the pool:
/// commands run in the order they are recorded, so that whoever takes them next
/// writes after all who still read.
#[derive(Clone)]
pub struct Buffer(Rc<Held>);

struct Held {
    raw: Option<Raw>,
    pool: Weak<Pool>,
}

impl Buffer {
    pub(super) fn raw(&self) -> &Raw {
        // Taken only on drop.
        self.0
            .raw
            .as_ref()
            .expect("a buffer that lives holds its memory")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(raw), Some(pool)) = (self.raw.take(), self.pool.upgrade()) {
            if raw.kept {
                pool.gone.borrow_mut().push(raw);
                return;
            }
            pool.free
                .borrow_mut()
                .entry(raw.bytes)
                .or_default()
                .insert(raw.id, raw);
        }
    }
}

/// Buffers that nobody holds.
pub(super) struct Pool {
    device: wgpu::Device,
    limit: u64,
    /// By size and number: who asks gets the lowest number, so that the same
    /// requests get the same buffers and bind groups are found again.
    free: RefCell<BTreeMap<u64, BTreeMap<u64, Raw>>>,
    /// Weights of models that are gone.
    gone: RefCell<Vec<Raw>>,
    /// Buffers made, which numbers them.
    pub(super) made: Cell<u64>,
    /// Bytes of those that are not destroyed.
    pub(super) held: Cell<u64>,
    /// Number of the submission that is being recorded.
    pub(super) epoch: Cell<u64>,
}

impl Pool {
    pub(super) fn new(device: &wgpu::Device) -> Rc<Self> {
        let limits = device.limits();
        Rc::new(Self {
            device: device.clone(),
            limit: limits
                .max_storage_buffer_binding_size
                .min(limits.max_buffer_size),
            free: RefCell::default(),
            gone: RefCell::default(),
            made: Cell::new(0),
            held: Cell::new(0),
            epoch: Cell::new(1),
        })
    }

    /// Most bytes of a buffer.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Notes that a command that is being recorded uses the buffer.
    pub(super) fn used(&self, buffer: &Buffer) {
        buffer.raw().epoch.set(self.epoch.get());
    }

    /// What nobody holds and nobody will ask for again. The caller destroys it
    /// once no recorded command uses it.
    pub(super) fn gone(&self) -> Vec<Raw> {
        self.gone.take()
    }

    /// A buffer of at least so many bytes, with anything in it. `fresh` asks
    /// for one that no command recorded and not yet submitted uses: the host
    /// may write it at once.
    pub(super) fn take(self: &Rc<Self>, bytes: u64, fresh: bool) -> Result<Buffer, DeviceError> {
        let bytes = class(bytes);
        let free = {
            let mut free = self.free.borrow_mut();
            let list = free.entry(bytes).or_default();
            let fits = |raw: &&Raw| !fresh || raw.epoch.get() < self.epoch.get();
            let id = list.values().find(fits).map(|raw| raw.id);
            id.and_then(|id| list.remove(&id))
        };
        let raw = match free {
            Some(raw) => raw,
            None => self.make(bytes, false)?,
        };
        Ok(self.hold(raw))
    }

    /// A buffer of exactly so many bytes, for what stays: weights.
    pub(super) fn keep(self: &Rc<Self>, bytes: u64) -> Result<Buffer, DeviceError> {
        // Kernels read whole vectors.
        let raw = self.make(bytes.max(16).next_multiple_of(16), true)?;
        Ok(self.hold(raw))
    }

    fn hold(self: &Rc<Self>, raw: Raw) -> Buffer {
        Buffer(Rc::new(Held {
            raw: Some(raw),
            pool: Rc::downgrade(self),
        }))
    }

    fn make(&self, bytes: u64, kept: bool) -> Result<Raw, DeviceError> {
        if bytes > self.limit {
            return Err(DeviceError::TooLarge {
                name: "a tensor".to_owned(),
                bytes,
                limit: self.limit,
            });
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        self.made.set(self.made.get() + 1);
        self.held.set(self.held.get() + bytes);
        Ok(Raw {
            buffer,
            id: self.made.get(),
            bytes,
            epoch: Cell::new(0),
            kept,
        })
    }

    /// Gives the memory of a buffer back to the device.
    pub(super) fn destroy(&self, raw: &Raw) {
        raw.buffer.destroy();
        self.held.set(self.held.get() - raw.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn classes_waste_little_and_keep_their_members() {
        for bytes in [1u64, 256, 257, 1000, 4096, 4097, 1 << 20, (1 << 20) + 1] {
            let class_of = class(bytes);
            assert!(class_of >= bytes && class_of.is_multiple_of(4));
            assert!(bytes < 256 || class_of as f64 <= bytes as f64 * 1.25);
            assert_eq!(class(class_of), class_of);
        }
    }
}
