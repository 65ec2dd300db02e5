//! Whether a model fits, asked before it is brought here or opened.

use plume_core::hub::Plan;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::File;

use super::Library;
use super::machine::Machine;
use super::need::Need;
use super::remote::Remote;
use crate::protocol::{Device, Fit};
use crate::worker::files::{ModelFiles, Served};

fn silent(_: f64, _: f64) {}

/// What a packed model at an address says of itself, where its server gives
/// ranges.
fn head(plan: &Plan) -> Option<Need> {
    let packed = |name: &str| name.ends_with(".gguf");
    let file = plan.files.iter().find(|file| packed(&file.name))?;
    let remote = Remote::open(&file.url, file.bytes?, Box::new(|_| ()))?;
    let weights = vec![(file.name.clone(), Box::new(remote) as Box<_>)];
    let files = || ModelFiles::of_parts(file.name.clone(), Vec::new(), weights);
    Need::of_writer(files().ok()?).ok()
}

impl Library {
    /// Whether a model of the library fits, as far as it is known.
    pub(super) fn fit(&self, id: &str) -> Fit {
        let need = self.with(id, |entry| entry.need()).unwrap_or_default();
        let state = self.0.borrow();
        state.machine.fit(need, state.storage)
    }

    /// Asks a model from an address what it needs: its own head says it.
    pub(super) fn ask(&self, id: &str, plan: &Plan) {
        let asked = self.with(id, |entry| {
            entry.need.is_none() && entry.model.kind.is_none()
        });
        if asked == Some(true)
            && let Some(need) = head(plan)
        {
            self.with(id, |entry| entry.need = Some(need));
        }
    }

    /// Looks at the heads of a person's own files. Those that do not fit are
    /// refused once: who opens them again wants them all the same.
    ///
    /// # Errors
    /// Says what it needs and what to do.
    pub(in crate::worker) async fn judge(
        &self,
        payload: &JsValue,
        device: Device,
        served: &Served,
    ) -> Result<(), String> {
        let Ok(files) = ModelFiles::own(payload, silent).await else {
            // Loading it says what is wrong.
            return Ok(());
        };
        let name = files.name.clone();
        let need = if served.writes() {
            Need::of_writer(files)
        } else {
            Need::of_classifier(files)
        };
        let Ok(need) = need else { return Ok(()) };
        // By itself: it is asked before the library is read, and without one.
        let machine = Machine::look().await;
        let machine = match device {
            Device::Cpu => machine.without_gpu(),
            Device::Best | Device::Gpu => machine,
        };
        let mut state = self.0.borrow_mut();
        // From disk nothing has to be kept.
        let fit = machine.fit(Need { bytes: 0.0, ..need }, state.storage);
        let which = which(payload);
        let Fit::No(why) = fit else { return Ok(()) };
        if state.refused.as_ref() == Some(&which) {
            return Ok(());
        }
        state.refused = Some(which);
        Err(format!(
            "{name} does not fit this device: it {why}. Open it once more to try it all the same"
        ))
    }
}

/// Files by their names and sizes.
fn which(payload: &JsValue) -> String {
    let files = js_sys::Array::from(payload);
    let of = |file: File| format!("{} {}", file.name(), file.size());
    let all: Vec<_> = files.iter().map(|file| of(file.unchecked_into())).collect();
    all.join("/")
}
