//! All that passes between the page and the worker. A message is this, as a
//! JavaScript object, beside at most one payload that is not copied: a `Blob`
//! or a list of `File`s.

pub mod chat;

pub use plume_core::hub::Kind;
pub use plume_core::tasks::verify::Finding;
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

/// Which model.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub enum Which {
    /// The one that is served with the page.
    #[default]
    Demo,
    /// The person's own: the payload is the list of its files.
    Own,
    /// One of the library that is kept on this machine.
    Kept(String),
    /// One of the library, read from the hub tensor by tensor and not kept.
    Streamed(String),
}

/// Which model is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// The one that classifies and is served with the page.
    Demo,
    /// A ViT-B/32 of random weights.
    VitB32,
    /// The one that writes and is served with the page.
    Chat,
}

/// From the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Load a model.
    Load {
        /// Told back with the answer.
        request: RequestId,
        /// What computes.
        device: Device,
        /// Which one.
        which: Which,
    },
    /// Say what the library has; answered by `Library`, now and whenever
    /// something in it changes.
    Library {
        /// Base URL of the hub, where it is not that of `models.json`.
        hub: Option<String>,
        /// Models may be kept on this machine.
        keep: bool,
    },
    /// Add the model that an address names to the library, and download it.
    Add {
        /// `owner/name`, or a URL.
        address: String,
    },
    /// Download a model of the library, from where it stopped.
    Download {
        /// Which one.
        id: String,
    },
    /// Keep a copy of the person's own model, whose files are the payload, as one
    /// of the library; see [`from_disk`].
    Keep {
        /// Its name for a person.
        name: String,
        /// What it does.
        kind: Kind,
    },
    /// Stop a download; what has arrived stays.
    Pause {
        /// Which one.
        id: String,
    },
    /// Take a model and all that has arrived of it off this machine.
    Delete {
        /// Which one.
        id: String,
    },
    /// Run every operation on the device of now against its reference, and
    /// hold the model against what is known of it. The payload is the picture
    /// that [`Loaded::published`] names, where it is there.
    Check,
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
    /// About the chat.
    Chat(chat::Wish),
    /// Run every operation against its reference on both devices.
    SelfTest,
    /// Measure.
    Bench {
        /// Which model.
        subject: Subject,
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
    /// Name of a picture for which numbers are published.
    pub published: Option<String>,
    /// Milliseconds it took.
    pub milliseconds: f64,
    /// Bytes of WebAssembly memory after it: memory never shrinks, so this is
    /// the most there was.
    pub memory: f64,
}

/// Where a model of the library is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// Not on this machine.
    Away,
    /// A part of it is here.
    Paused {
        /// Bytes that have arrived.
        done: f64,
        /// Bytes in all.
        total: f64,
        /// Why it stopped and what to do, unless the person stopped it.
        message: Option<String>,
        /// There is no room to keep it.
        full: bool,
    },
    /// It is coming.
    Coming {
        /// Bytes that have arrived.
        done: f64,
        /// Bytes in all; 0 while it is not known.
        total: f64,
        /// Bytes a second, lately.
        rate: f64,
        /// What is being waited for, if anything.
        note: Option<String>,
    },
    /// All of it is here, and is what the hub announced.
    Here {
        /// Bytes.
        bytes: f64,
    },
}

/// Whether a model can run on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fit {
    /// It can.
    Yes,
    /// It may, but.
    Barely(String),
    /// It cannot, because.
    No(String),
}

/// A model of the library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name in commands.
    pub id: String,
    /// Its name for a person.
    pub name: String,
    /// Who trained it.
    pub publisher: String,
    /// Its licence.
    pub licence: String,
    /// What it is good at.
    pub good_at: String,
    /// What it does; nothing where that is not known.
    pub kind: Option<Kind>,
    /// Where a person reads about it.
    pub page: String,
    /// Bytes to download; an estimate until the hub was asked, 0 if unknown.
    pub bytes: f64,
    /// Whether it can run here.
    pub fit: Fit,
}

/// A Flamingo that is published in parts, of which the person makes one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToPack {
    /// Its name in the list.
    pub id: String,
    /// Its name for a person.
    pub name: String,
    /// Who trained it.
    pub publisher: String,
    /// What its parts are licensed under.
    pub licence: String,
    /// What it is good at.
    pub good_at: String,
    /// Where a person reads about it.
    pub page: String,
    /// What it may be packed as, the smallest first.
    pub sizes: Vec<PackedAs>,
    /// The type of these that suits this machine best.
    pub best: String,
    /// The commands that make it so, one a line.
    pub commands: String,
}

/// A type that a model may be packed as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedAs {
    /// Its name for `plume pack --dtype`.
    pub dtype: String,
    /// Bytes of the model then.
    pub bytes: f64,
    /// Whether it can run here.
    pub fit: Fit,
}

/// What is kept on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Storage {
    /// Models can be kept at all.
    pub there: bool,
    /// Bytes that this page uses.
    pub used: f64,
    /// Bytes that this page may use.
    pub quota: f64,
    /// The browser promised not to clear it by itself.
    pub persisted: bool,
}

/// The library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Library {
    /// What is offered, and what else is here.
    pub offers: Vec<Offer>,
    /// Where each is, in the same order.
    pub places: Vec<Place>,
    /// What cannot be had as one file.
    pub to_pack: Vec<ToPack>,
    /// What is kept.
    pub storage: Storage,
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

/// What a check found.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Operations that were compared.
    pub cases: usize,
    /// Those that computed something else than the reference.
    pub failed: Vec<String>,
    /// What is known of the model, expected beside found.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub notes: Vec<String>,
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
    /// What the library has.
    Library(Library),
    /// Where a model of the library is now.
    Place {
        /// Which one.
        id: String,
        /// Where.
        place: Place,
    },
    /// An address names no model, or the library cannot be read.
    LibraryFailed {
        /// Why, and what to do.
        message: String,
    },
    /// About the chat.
    Chat(chat::News),
    /// Outcome of `Check`.
    Checked(Checked),
    /// Outcome of the self-test or the measurement, as JSON.
    Report {
        /// The JSON.
        json: String,
    },
}

/// The name in commands of a copy of a model from disk.
pub fn from_disk(name: &str) -> String {
    format!("disk/{name}")
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
