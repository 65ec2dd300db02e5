//! All that passes between the page and the worker. A message is this, as a
//! JavaScript object, beside at most one payload that is not copied: a `Blob`
//! or a list of `File`s.

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

/// A picture, by the page's count.
pub type PictureId = u32;

/// A wish to load a model, by the page's count.
pub type RequestId = u32;

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// WebGPU where there is a graphics processor, else the CPU.
    Best,
    /// WebGPU, also where it is done in software.
    Gpu,
    /// WebAssembly with SIMD.
    Cpu,
}

/// From the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Load a model: the person's own where the payload is a list of files,
    /// else the one that is served with the page.
    Load {
        /// Told back with the answer.
        request: RequestId,
        /// What computes.
        device: Device,
    },
    /// Score against these labels from now on, and all pictures so far again.
    Labels {
        /// The labels.
        labels: Vec<String>,
        /// Sentences with `{}`; the label's embedding is their mean.
        templates: Vec<String>,
    },
    /// Classify the picture in the payload.
    Picture {
        /// Who it is.
        id: PictureId,
    },
    /// Drop what is known of a picture.
    Forget {
        /// Who it is.
        id: PictureId,
    },
    /// Leave the pictures that wait.
    Cancel,
    /// Run every operation against its reference on both devices.
    SelfTest,
    /// Measure.
    Bench {
        /// The demo's model, else a ViT-B/32 of random weights.
        demo: bool,
        /// What computes.
        device: Device,
    },
}

/// What a loaded model is and runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Its name for a person.
    pub name: String,
    /// It is the one that is served with the page.
    pub demo: bool,
    /// WebGPU computes, not the CPU.
    pub gpu: bool,
    /// What computes, for a person.
    pub device: String,
    /// Why the CPU computes where WebGPU was asked for.
    pub note: Option<String>,
    /// Side of the pictures it sees, in pixels.
    pub image_size: usize,
    /// Where each label has a probability of its own (SigLIP), the cosine at
    /// which it is one half; nothing where the labels share 100 %.
    pub even: Option<f32>,
    /// Milliseconds it took.
    pub milliseconds: f64,
}

/// How long a picture took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Timings {
    /// From the file to pixels.
    pub decode: f64,
    /// From pixels to what the model takes.
    pub resize: f64,
    /// Through the image tower; a batch shares its time.
    pub encode: f64,
}

/// How well each label fits a picture.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores {
    /// Cosine of the angle between picture and label.
    pub cosine: Vec<f32>,
    /// Of these labels, sums to one.
    pub probability: Vec<f32>,
}

/// From the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The worker listens.
    Started,
    /// A model's weights are being read.
    Loading {
        /// Bytes so far.
        done: f64,
        /// Bytes of the file.
        total: f64,
    },
    /// A model can be used.
    Loaded {
        /// The wish that this answers.
        request: RequestId,
        /// What it is.
        loaded: Loaded,
    },
    /// A model cannot be used; load the one before again.
    LoadFailed {
        /// The wish that this answers.
        request: RequestId,
        /// Why, and what to do.
        message: String,
    },
    /// The labels could not be used.
    LabelsFailed {
        /// Why, and what to do.
        message: String,
    },
    /// Scores of a picture, by the labels of the last `Labels`.
    Scores {
        /// Who it is.
        id: PictureId,
        /// The labels these scores are of.
        labels: Vec<String>,
        /// Empty where there are no labels.
        scores: Scores,
        /// How long it took.
        timings: Timings,
    },
    /// A picture could not be used.
    PictureFailed {
        /// Who it is.
        id: PictureId,
        /// Why, and what to do.
        message: String,
    },
    /// A picture was left.
    Cancelled {
        /// Who it is.
        id: PictureId,
    },
    /// The graphics processor is gone; nothing computes until a model is
    /// loaded again.
    DeviceLost {
        /// Why, and what to do.
        message: String,
    },
    /// The worker broke and has to be started again.
    Crashed {
        /// What it said.
        message: String,
    },
    /// Outcome of the self-test or the measurement, as JSON.
    Report {
        /// The JSON.
        json: String,
    },
}

/// Packs a message.
///
/// # Errors
/// Never for the types of this module.
pub fn pack<T: Serialize>(message: &T, payload: &JsValue) -> Result<JsValue, JsValue> {
    Ok(js_sys::Array::of2(&serde_wasm_bindgen::to_value(message)?, payload).into())
}

/// Unpacks a message.
///
/// # Errors
/// Where it is none of ours.
pub fn unpack<T: serde::de::DeserializeOwned>(data: &JsValue) -> Result<(T, JsValue), JsValue> {
    let pair = js_sys::Array::from(data);
    Ok((serde_wasm_bindgen::from_value(pair.get(0))?, pair.get(1)))
}
