//! A model that writes: how fast it reads and writes.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use plume_core::backend::Backend;
use plume_core::bench::Plan;
use plume_core::bench::language::{
    Counters, Noise, PROMPT, TextTimes, bytes_read, copy_rate, layer_pair, stored_bytes,
    text_times, writer_times,
};
use plume_core::checkpoint::{Asked, asked};
use plume_core::models::flamingo::{Flamingo, Illustrated};
use plume_core::quant::Quantization;

use super::Dtype;
use crate::commands::print;
use crate::writer::WriterFiles;

/// Numbers that are copied: more than caches hold.
const COPIED: usize = 32 << 20;

/// What is measured.
pub(super) struct Text<'a> {
    pub(super) model: &'a Path,
    pub(super) dtype: Dtype,
    pub(super) cpu: bool,
    pub(super) json: bool,
}

impl Text<'_> {
    pub(super) fn on<B: Backend>(
        &self,
        backend: &B,
        device: &str,
        counters: Counters<'_>,
    ) -> Result<()> {
        let begun = Instant::now();
        let now = || begun.elapsed().as_secs_f64() * 1e3;
        let plan = Plan::usual();
        let clock = (&now as &dyn Fn() -> f64, counters);
        let mut name = self.model.display().to_string();
        let pair = if self.model.exists() {
            None
        } else {
            layer_pair(&name)
        };
        let (times, bytes) = match pair {
            Some(config) => {
                name = format!("{name}, one layer pair, {}", self.dtype.name());
                let kind = self.dtype.kind();
                let flamingo = Flamingo::load(backend, &config, &Noise(kind))?;
                let all = asked(|device, source| Flamingo::load(device, &config, source))?;
                // The head is no part of a pair.
                let all: Vec<Asked> = all
                    .into_iter()
                    .filter(|asked| {
                        !["lm.token_embedding", "lm.head"].contains(&asked.name.as_str())
                    })
                    .collect();
                let bytes = bytes_read(&config.lm, &all, |a| stored_bytes(a, kind, self.half()));
                let pixels = vec![0.1; 28 * 28 * 3];
                let media = flamingo.media(&flamingo.see(&pixels, &[1])?, 1)?;
                let mut prompt = vec![1; PROMPT];
                prompt[0] = config.image_token;
                let reading = Illustrated::new(&flamingo, &media, &prompt)?;
                let times = text_times(&reading, &prompt, false, &plan, clock);
                (pollster::block_on(times)?, bytes)
            }
            None => self.published(backend, clock)?,
        };
        let copy = if self.cpu {
            copied()
        } else {
            pollster::block_on(copy_rate(backend, COPIED, &plan, &now))?
        };
        if self.json {
            let mut json = serde_json::to_value(&times)?;
            json["model"] = name.into();
            json["device"] = device.into();
            json["bytes"] = bytes.into();
            json["copy"] = copy.into();
            return print(&json.to_string());
        }
        print(&format!("{name} on {device}"))?;
        print(&table(&times, bytes, copy))
    }

    /// A model of files, with its head; a Flamingo without pictures.
    fn published<B: Backend>(
        &self,
        backend: &B,
        clock: (&dyn Fn() -> f64, Counters<'_>),
    ) -> Result<(TextTimes, u64)> {
        let files = WriterFiles::open(self.model)?;
        let writer = files.load(backend)?;
        let times = pollster::block_on(writer_times(&writer, &Plan::usual(), clock))?;
        let all = files.config.asked()?;
        let file = files.checkpoint.file();
        let layout = files.checkpoint.layout();
        let on_device = |asked: &Asked| {
            let sources = layout.recipe(&asked.name).sources();
            let dtype = |name: &String| file.stored(name).map(|stored| stored.dtype);
            match sources.first().and_then(dtype).as_deref() {
                Some("Q8_0") => stored_bytes(asked, Some(Quantization::Q8_0), 2),
                Some("Q4_0") => stored_bytes(asked, Some(Quantization::Q4_0), 2),
                Some("F16") => stored_bytes(asked, None, self.half()),
                _ => stored_bytes(asked, None, 4),
            }
        };
        let bytes = bytes_read(files.config.lm(), &all, on_device);
        Ok((times, bytes))
    }

    /// Bytes of a number of 16 bits: the processor widens it when it loads.
    fn half(&self) -> u64 {
        if self.cpu { 4 } else { 2 }
    }
}

impl Dtype {
    fn kind(self) -> Option<Quantization> {
        match self {
            Self::F16 => None,
            Self::Q8 => Some(Quantization::Q8_0),
            Self::Q4 => Some(Quantization::Q4_0),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8 => "q8_0",
            Self::Q4 => "q4_0",
        }
    }
}

/// Thousand million bytes each second, read and written, that all cores copy
/// together.
fn copied() -> f64 {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let each = COPIED / threads;
    let (from, mut to) = (vec![0.5f32; each * threads], vec![0.0f32; each * threads]);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begun = Instant::now();
        thread::scope(|scope| {
            for (to, from) in to.chunks_mut(each).zip(from.chunks(each)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        best = best.min(begun.elapsed().as_secs_f64());
    }
    std::hint::black_box(&to);
    8.0 * (each * threads) as f64 / best / 1e9
}

fn table(times: &TextTimes, bytes: u64, copy: f64) -> String {
    let (token, prefill) = (times.token, times.prefill);
    let rate = bytes as f64 / token.median / 1e6;
    let mut lines = vec![
        format!(
            "{:8.1} tokens a second: {:.2} ms for each ({:.2} to {:.2})",
            1e3 / token.median,
            token.median,
            token.least,
            token.most
        ),
        format!(
            "{:8.1} tokens a second of a prompt of {}: {:.1} ms ({:.1} to {:.1})",
            times.prompt as f64 * 1e3 / prefill.median,
            times.prompt,
            prefill.median,
            prefill.least,
            prefill.most
        ),
        format!(
            "{:8.1} MB of weights read for a token, {rate:.2} GB/s: {:.0} % of the {copy:.1} GB/s of a copy",
            bytes as f64 / 1e6,
            100.0 * rate / copy
        ),
    ];
    if let (Some(dispatches), Some(submits)) = (times.dispatches, times.submits) {
        lines.push(format!(
            "{dispatches:8} kernels and {submits} submits for a token"
        ));
    }
    lines.join("\n")
}
