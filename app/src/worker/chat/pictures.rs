//! The pictures of the chat. They are kept as files, so that they outlive the
//! model that looked at them.

use plume_core::image::Rgb8;
use plume_core::prompts::rices;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

use super::{Trouble, attempt, breathe, tell};
use crate::protocol::PictureId;
use crate::protocol::chat::{News, Piece};
use crate::worker::chat::model::Model;
use crate::worker::{Shared, decode, now, put_back, take};

/// A picture, or the frames of a clip.
pub(super) struct Held {
    frames: Vec<Blob>,
    /// Width and height in pixels, once it was decoded.
    pub(super) sides: Option<(u32, u32)>,
    /// Its embedding by the CLIP that classifies.
    pub(super) embedding: Option<Vec<f32>>,
}

impl Held {
    /// What came with a wish: a `Blob`, or a list of them.
    fn of(payload: &JsValue) -> Self {
        let frames = match payload.dyn_ref::<Blob>() {
            Some(blob) => vec![blob.clone()],
            None => js_sys::Array::from(payload)
                .iter()
                .filter_map(|frame| frame.dyn_into().ok())
                .collect(),
        };
        Self {
            frames,
            sides: None,
            embedding: None,
        }
    }
}

/// Keeps what came with a wish.
pub(super) fn keep(shared: &Shared, id: PictureId, payload: &JsValue) {
    let mut worker = shared.borrow_mut();
    worker.chat.pictures.insert(id, Held::of(payload));
    // What was known is of another picture.
    if let Some(model) = &mut worker.chat.model {
        model.forget(id);
    }
}

pub(super) fn forget(shared: &Shared, id: PictureId) {
    let mut worker = shared.borrow_mut();
    worker.chat.pictures.remove(&id);
    if let Some(model) = &mut worker.chat.model {
        model.forget(id);
    }
}

/// Looks at a picture that came with a wish, if there is a model.
pub(super) async fn see(shared: &Shared, id: PictureId) {
    if shared.borrow().chat.model.is_none() {
        return;
    }
    let done = attempt(shared, async |model| look_at(shared, model, id).await).await;
    if let Err(message) = done {
        tell(News::SeeFailed { id, message });
    }
}

async fn look_at(shared: &Shared, model: &mut Model, id: PictureId) -> Result<(), Trouble> {
    let start = now();
    let frames = frames(shared, id).await?;
    model.see(id, &frames).await?;
    let milliseconds = now() - start;
    tell(News::Seen { id, milliseconds });
    Ok(())
}

/// Looks at those pictures of a prompt that the model has not seen.
pub(super) async fn see_all(
    shared: &Shared,
    model: &mut Model,
    prompt: &[Piece],
) -> Result<(), Trouble> {
    for id in shown(prompt) {
        if !model.has_seen(id) {
            look_at(shared, model, id).await?;
            breathe(shared).await?;
        }
    }
    Ok(())
}

/// The pictures of a prompt.
pub(super) fn shown(prompt: &[Piece]) -> impl Iterator<Item = PictureId> {
    prompt.iter().filter_map(|piece| match piece {
        Piece::Media(id) => Some(*id),
        Piece::Text(_) => None,
    })
}

/// The pixels of a picture, or of the frames of a clip.
pub(super) async fn frames(shared: &Shared, id: PictureId) -> Result<Vec<Rgb8>, Trouble> {
    let held = |worker: &super::State| worker.pictures.get(&id).map(|held| held.frames.clone());
    let blobs = held(&shared.borrow().chat)
        .ok_or("a picture of the prompt is not here any more: add it again")?;
    if blobs.is_empty() {
        return Err("the clip has no frames: choose another, or a higher rate"
            .to_owned()
            .into());
    }
    let mut frames = Vec::with_capacity(blobs.len());
    for blob in &blobs {
        frames.push(decode::decode(blob).await?);
    }
    let sides = frames.first().map(|frame| (frame.width(), frame.height()));
    if let Some(held) = shared.borrow_mut().chat.pictures.get_mut(&id) {
        held.sides = sides;
    }
    Ok(frames)
}

/// The pictures of the support that are most like the query, by the CLIP that
/// classifies, the most similar last.
pub(super) async fn choose(
    shared: &Shared,
    query: PictureId,
    support: &[PictureId],
    count: usize,
) -> Result<Vec<(PictureId, f32)>, Trouble> {
    let support: Vec<PictureId> = support.iter().copied().filter(|id| *id != query).collect();
    for id in support.iter().chain([&query]) {
        embed(shared, *id).await?;
        breathe(shared).await?;
    }
    let worker = shared.borrow();
    let embedding = |id: &PictureId| {
        let held = worker.chat.pictures.get(id);
        held.and_then(|held| held.embedding.clone())
            .unwrap_or_default()
    };
    let query = embedding(&query);
    let all: Vec<Vec<f32>> = support.iter().map(embedding).collect();
    let cosine = |i: usize| all[i].iter().zip(&query).map(|(a, b)| a * b).sum();
    let chosen = rices(&query, &all, count).into_iter();
    Ok(chosen.map(|i| (support[i], cosine(i))).collect())
}

/// Embeds a picture, unless it is; of a clip it is the mean of its frames'.
async fn embed(shared: &Shared, id: PictureId) -> Result<(), Trouble> {
    let there = |worker: &super::State| {
        let held = worker.pictures.get(&id);
        held.is_some_and(|held| held.embedding.is_some())
    };
    if there(&shared.borrow().chat) {
        return Ok(());
    }
    let frames = frames(shared, id).await?;
    let mut session = take(shared).ok_or(
        "pictures are compared by the model that classifies, and none is loaded: load one",
    )?;
    let preprocess = session.preprocess();
    let pixels: Vec<f32> = frames.iter().flat_map(|f| preprocess.apply(f)).collect();
    let done = session.embed_images(&pixels).await;
    put_back(shared, session, done.as_ref().err());
    let embedding = mean(&done.map_err(|error| error.to_string())?);
    if let Some(held) = shared.borrow_mut().chat.pictures.get_mut(&id) {
        held.embedding = Some(embedding);
    }
    Ok(())
}

/// The mean, of length one.
fn mean(all: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; all.first().map_or(0, Vec::len)];
    for embedding in all {
        sum.iter_mut().zip(embedding).for_each(|(sum, x)| *sum += x);
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    sum.iter().map(|x| x / length).collect()
}
