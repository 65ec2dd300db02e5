//! What this machine offers, and whether a model fits it: judged before a byte
//! is downloaded.

use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::super::scope;
use crate::protocol::{Fit, Storage};

/// A graphics processor's limits, in bytes.
#[derive(Clone, Copy)]
struct Limits {
    buffer: f64,
    binding: f64,
}

/// What there is.
#[derive(Clone, Copy, Default)]
pub(super) struct Machine {
    /// Only where it computes in hardware.
    gpu: Option<Limits>,
    /// Bytes of memory; a browser rounds, and tells no more than some bound.
    memory: Option<f64>,
}

/// What a model needs.
#[derive(Clone, Copy, Default)]
pub(super) struct Need {
    /// Bytes of its files.
    pub(super) bytes: f64,
    /// Numbers in its weights.
    pub(super) parameters: f64,
    /// Bytes of its largest weight.
    pub(super) largest: f64,
    /// 10⁹ operations for a picture.
    pub(super) gflops: f64,
}

/// WebAssembly addresses 4 GiB, and pictures need some of it.
const WASM: f64 = 3.6e9;
/// Beyond the weights: pictures, activations, the page.
const BESIDE: f64 = 0.4e9;
/// Browsers tell no more memory than this, at least.
const TOLD_AT_MOST: f64 = 8.0 * GIB;
const GIB: f64 = (1u64 << 30) as f64;
/// A processor does some 10¹⁰ operations a second in a browser: seconds pass.
const SLOW: f64 = 30.0;

fn get(object: &JsValue, name: &str) -> JsValue {
    js_sys::Reflect::get(object, &name.into()).unwrap_or_default()
}

impl Machine {
    /// Looks.
    pub(super) async fn look() -> Self {
        let navigator = JsValue::from(scope().navigator());
        let memory = get(&navigator, "deviceMemory").as_f64();
        Self {
            gpu: adapter(&get(&navigator, "gpu")).await,
            memory: memory.map(|gigabytes| gigabytes * GIB),
        }
    }

    /// Judges.
    pub(super) fn fit(&self, need: Need, storage: Storage) -> Fit {
        let Need {
            bytes,
            parameters,
            largest,
            gflops,
        } = need;
        let gb = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
        let in_f32 = 4.0 * parameters;
        let needed = BESIDE
            + if self.gpu.is_some() {
                bytes
            } else {
                bytes.max(in_f32)
            };
        if self.gpu.is_none() && needed > WASM {
            return Fit::No(format!(
                "needs {} of memory, and without a graphics processor a page has {}",
                gb(needed),
                gb(WASM)
            ));
        }
        match self.memory {
            Some(memory) if needed > memory && memory < TOLD_AT_MOST => {
                return Fit::No(format!(
                    "needs {} of memory and this machine has about {}",
                    gb(needed),
                    gb(memory)
                ));
            }
            Some(memory) if needed > memory / 2.0 => {
                return Fit::Barely(format!(
                    "needs {} of memory: close other pages first",
                    gb(needed)
                ));
            }
            _ => {}
        }
        if let Some(gpu) = self.gpu {
            let most = gpu.buffer.min(gpu.binding);
            if largest > most {
                return Fit::Barely(format!(
                    "its largest weight ({:.0} MB) is more than this graphics processor takes \
                     at once ({:.0} MB)",
                    largest / 1e6,
                    most / 1e6
                ));
            }
        } else if gflops > SLOW {
            return Fit::Barely(
                "no graphics processor here: some seconds for each picture".to_owned(),
            );
        }
        let free = storage.quota - storage.used;
        if storage.there && bytes > free {
            return Fit::Barely(format!(
                "no room to keep it: {} are free. It runs without being kept",
                gb(free)
            ));
        }
        Fit::Yes
    }
}

async fn adapter(gpu: &JsValue) -> Option<Limits> {
    let request: js_sys::Function = get(gpu, "requestAdapter").dyn_into().ok()?;
    let promise: js_sys::Promise = request.call0(gpu).ok()?.dyn_into().ok()?;
    let adapter = JsFuture::from(promise).await.ok()?;
    let limits = get(&adapter, "limits");
    let info = get(&adapter, "info");
    let word = |name: &str| get(&info, name).as_string().unwrap_or_default();
    let software = [word("architecture"), word("device"), word("description")]
        .iter()
        .any(|word| word.to_lowercase().contains("swiftshader"));
    let fallback = get(&adapter, "isFallbackAdapter").is_truthy()
        || get(&info, "isFallbackAdapter").is_truthy();
    if software || fallback {
        return None;
    }
    Some(Limits {
        buffer: get(&limits, "maxBufferSize").as_f64()?,
        binding: get(&limits, "maxStorageBufferBindingSize").as_f64()?,
    })
}
