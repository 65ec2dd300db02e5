//! What this machine offers, and whether a model fits it: judged before a byte
//! is downloaded.

use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::super::scope;
use super::need::Need;
use crate::protocol::{Fit, Storage};

/// What there is.
#[derive(Clone, Copy, Default)]
pub(super) struct Machine {
    /// Most bytes that the graphics processor takes at once, where there is one
    /// that computes in hardware.
    gpu: Option<f64>,
    /// Bytes of memory; a browser rounds, and tells no more than some bound.
    memory: Option<f64>,
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
    /// One of so many gigabytes of memory.
    #[cfg(test)]
    pub(super) fn of(gpu: Option<f64>, gigabytes: f64) -> Self {
        let memory = Some(gigabytes * GIB);
        Self { gpu, memory }
    }

    /// Looks.
    pub(super) async fn look() -> Self {
        let navigator = JsValue::from(scope().navigator());
        let memory = get(&navigator, "deviceMemory").as_f64();
        Self {
            gpu: adapter(&get(&navigator, "gpu")).await,
            memory: memory.map(|gigabytes| gigabytes * GIB),
        }
    }

    /// The same machine where the person has the CPU compute.
    pub(super) fn without_gpu(self) -> Self {
        Self { gpu: None, ..self }
    }

    /// Judges.
    pub(super) fn fit(&self, need: Need, storage: Storage) -> Fit {
        let Need {
            bytes,
            picture,
            gflops,
            ..
        } = need;
        let gb = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
        if let Some(most) = self.gpu
            && picture > most
        {
            return Fit::No(format!(
                "a picture takes {:.0} MB on its way and this graphics processor takes {:.0} MB \
                 at once",
                picture / 1e6,
                most / 1e6
            ));
        }
        let weights = match self.gpu {
            Some(_) => need.gpu,
            None => need.cpu,
        };
        let needed = BESIDE + need.kept + weights;
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
        if self.gpu.is_none() && gflops > SLOW {
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

/// What the graphics processor takes at once.
async fn adapter(gpu: &JsValue) -> Option<f64> {
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
    let limit = |name: &str| get(&limits, name).as_f64();
    Some(limit("maxBufferSize")?.min(limit("maxStorageBufferBindingSize")?))
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    /// WebGPU's own limit on a binding: no device offers less.
    const LEAST: f64 = (128 << 20) as f64;

    fn machine(gpu: Option<f64>, gigabytes: f64) -> Machine {
        Machine::of(gpu, gigabytes)
    }

    /// With room for everything.
    const EMPTY: Storage = Storage {
        there: true,
        used: 0.0,
        quota: 1e12,
        persisted: true,
    };

    /// By millions of parameters in f32, MB of a picture, GFLOP.
    fn need(millions: f64, picture: f64, gflops: f64) -> Need {
        let bytes = 4e6 * millions;
        Need {
            bytes,
            gpu: bytes,
            cpu: bytes,
            kept: 0.0,
            picture: 1e6 * picture,
            gflops,
        }
    }

    fn why(fit: &Fit) -> &str {
        match fit {
            Fit::Yes => "",
            Fit::Barely(why) | Fit::No(why) => why,
        }
    }

    #[wasm_bindgen_test]
    fn weights_larger_than_a_buffer_are_no_reason() {
        // RN50x64 and ViT-H/14, whose tables of tokens have 202 MB.
        for need in [need(623.26, 25.7, 529.0), need(986.11, 5.3, 335.0)] {
            assert_eq!(machine(Some(LEAST), 16.0).fit(need, EMPTY), Fit::Yes);
        }
    }

    #[wasm_bindgen_test]
    fn a_picture_has_to_pass() {
        let fit = machine(Some(20e6), 16.0).fit(need(623.26, 25.7, 529.0), EMPTY);
        assert!(
            matches!(fit, Fit::No(_)) && why(&fit).contains("26 MB"),
            "{fit:?}"
        );
        // Where the size is not known nothing is claimed.
        let fit = machine(Some(20e6), 16.0).fit(need(623.26, 0.0, 0.0), EMPTY);
        assert_eq!(fit, Fit::Yes);
    }

    #[wasm_bindgen_test]
    fn memory_and_patience_are_judged() {
        let b_32 = need(151.28, 0.6, 8.8);
        assert_eq!(machine(None, 8.0).fit(b_32, EMPTY), Fit::Yes);
        let fit = machine(None, 0.5).fit(b_32, EMPTY);
        assert!(matches!(fit, Fit::No(_)), "{fit:?}");
        let fit = machine(Some(LEAST), 2.0).fit(need(427.62, 4.2, 162.0), EMPTY);
        assert!(why(&fit).contains("needs 2.1 GB"), "{fit:?}");
        // Without a graphics processor a page has not enough memory for it.
        let fit = machine(None, 32.0).fit(need(986.11, 5.3, 335.0), EMPTY);
        assert!(matches!(fit, Fit::No(_)), "{fit:?}");
        let fit = machine(None, 8.0).fit(need(427.62, 4.2, 162.0), EMPTY);
        assert!(why(&fit).contains("some seconds"), "{fit:?}");
        // Packed in 4 bits it is small.
        let q4 = Need {
            bytes: 0.6e9,
            gpu: 0.6e9,
            cpu: 0.6e9,
            ..need(986.11, 5.3, 335.0)
        };
        assert_eq!(machine(Some(LEAST), 4.0).fit(q4, EMPTY), Fit::Yes);
    }

    #[wasm_bindgen_test]
    fn without_room_it_runs_and_is_not_kept() {
        let full = Storage {
            used: 1e12 - 1e6,
            ..EMPTY
        };
        let fit = machine(Some(LEAST), 8.0).fit(need(151.28, 0.6, 8.8), full);
        assert!(why(&fit).contains("no room to keep it"), "{fit:?}");
        // Nothing can be kept here at all: that is said elsewhere.
        let none = Storage {
            there: false,
            ..full
        };
        let fit = machine(Some(LEAST), 8.0).fit(need(151.28, 0.6, 8.8), none);
        assert_eq!(fit, Fit::Yes);
    }
}
