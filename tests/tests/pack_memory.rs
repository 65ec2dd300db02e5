//! Packing reads one tensor at a time: what it takes of memory, measured over a
//! checkpoint that is made as it is read.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::{self, Write};
use std::sync::Mutex;

use peak_alloc::PeakAlloc;
use plume_core::checkpoint::Scope;
use plume_core::checkpoint::{
    Bytes, Packed, Precision, Weights, asked, lm_config, lm_layout, pack,
};
use plume_core::models::lm::Lm;
use plume_tests::checkpoint::Seeded;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A file that is nowhere.
struct Nowhere(Seeded);

impl Bytes for Nowhere {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&self, offset: u64, len: usize) -> plume_core::Result<Vec<u8>> {
        Ok(self.0.read(offset, offset + len as u64))
    }
}

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a language model like MPT of this width and depth, stored in f32: its
/// table is the largest tensor.
fn packed(width: usize, layers: usize, heads: usize, precisions: &[Precision]) {
    let json = serde_json::json!({
        "model_type": "mpt", "d_model": width, "n_heads": heads, "n_layers": layers,
        "max_seq_len": 2048, "vocab_size": 50_280, "no_bias": true,
    });
    let json = json.to_string();
    let config = lm_config(&json).unwrap();
    let layout = lm_layout(&json, &config).unwrap();
    let all = asked(|device, source| Lm::load(&Scope::root(device, source).child("lm"), &config));
    let all = all.unwrap();
    let tensors = all.iter().map(|asked| {
        let sources = layout.recipe(&asked.name).sources();
        let shape = asked.shape.iter().map(|&n| n as u64).collect();
        (sources[0].clone(), shape)
    });
    let file = Seeded::new(&tensors.collect::<Vec<_>>(), 7);
    let (size, largest) = (file.len(), file.largest());
    let source = Weights::open(Box::new(Nowhere(file)))
        .unwrap()
        .under(layout);
    let packed = Packed {
        config: config.to_json(),
        ..Packed::default()
    };
    for &precision in precisions {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let written = pack(Count(0), &packed, &all, &source, precision, |_| {}).unwrap();
        let taken = MEMORY.peak_usage() - before;
        println!(
            "{precision:?}: {:.0} MB read, {:.0} MB written, largest tensor {:.0} MB, {:.0} MB of \
             memory at most",
            size as f64 / 1e6,
            written.0 as f64 / 1e6,
            largest as f64 / 1e6,
            taken as f64 / 1e6
        );
        // The tensor, its bytes as they are written, a piece being read.
        assert!(taken as u64 <= 2 * largest + (64 << 20), "{taken}");
    }
}

/// Both measure the same allocator.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn one_tensor_is_in_memory_at_a_time() {
    let _turn = TURN.lock();
    packed(512, 24, 8, &[Precision::F32, Precision::Q8_0]);
}

/// The language model of OpenFlamingo-9B, 27 GB of it: takes minutes, and so
/// only where `PLUME_FULL` asks for it.
#[test]
fn twenty_gigabytes_are_packed_in_less_than_four() {
    if std::env::var_os("PLUME_FULL").is_none() {
        println!("skipped: PLUME_FULL does not ask for it");
        return;
    }
    let _turn = TURN.lock();
    packed(4096, 32, 32, &[Precision::Q4_0]);
}
