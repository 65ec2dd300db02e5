//! The pictures that are kept, and when they are deleted: by a page that is
//! [alone](super::alone), once nothing that is kept shows them.

use std::collections::BTreeSet;

use leptos::task::spawn_local;
use rexie::TransactionMode;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

use super::alone::is_alone;
use super::{MEDIA, RECORDS, changed, database, not_kept, texts, words, written};
use crate::protocol::PictureId;
use crate::ui::chat::clip::Sampling;
use crate::ui::chat::media::{self, Clip};
use crate::ui::chat::store::{Chat, Conversation, Shot, ShotSet, media_of};

/// Larger clips can be sampled anew only as long as the page is open: their
/// frames are kept, their files are the person's.
const LARGEST_CLIP: f64 = 64e6;

pub(in crate::ui::chat) fn keep_media(
    id: PictureId,
    name: &str,
    frames: &[Blob],
    clip: Option<&Clip>,
) {
    let frames: js_sys::Array = frames.iter().collect();
    let value = js_sys::Array::of2(&name.into(), &frames);
    if let Some(Clip { file, how }) = clip.filter(|clip| clip.file.size() <= LARGEST_CLIP) {
        value.push(file);
        value.push(&how.rate.into());
        value.push(&(how.most as f64).into());
    }
    changed(MEDIA, id.into(), Some(value.into()));
}

/// Puts a picture on the page as it is kept.
pub(super) fn put_media(chat: Chat, id: PictureId, value: &JsValue) {
    let parts = js_sys::Array::from(value);
    let frames = js_sys::Array::from(&parts.get(1));
    let frames: Vec<Blob> = frames
        .iter()
        .filter_map(|frame| frame.dyn_into().ok())
        .collect();
    let name = parts.get(0).as_string().unwrap_or_default();
    let clip = || {
        let file = parts.get(2).dyn_into().ok()?;
        let (rate, most) = (parts.get(3).as_f64()?, parts.get(4).as_f64()?);
        let how = Sampling::of(rate, most as usize);
        Some(Clip { file, how })
    };
    media::put(chat, id, &name, &frames, clip());
}

/// Deletes pictures that this page shows no more. Where another page may still
/// show them, they stay until one comes in alone.
pub(in crate::ui::chat) fn drop_media(gone: Vec<PictureId>) {
    spawn_local(async move {
        if is_alone().await {
            sweep(&gone).await;
        }
    });
}

/// Deletes those of some pictures that nothing that is kept shows: not what this
/// page knows decides, but what other pages have left as well.
pub(super) async fn sweep(pictures: &[PictureId]) {
    let Some(database) = database().filter(|_| !pictures.is_empty()) else {
        return;
    };
    let delete = async {
        let transaction = database.transaction(&[RECORDS, MEDIA], TransactionMode::ReadWrite)?;
        let texts = texts(&transaction).await?;
        let conversations: Vec<_> = texts.records.into_iter().map(|r| r.conversation).collect();
        let used = used(&conversations, &texts.sets);
        let stays = |id: &PictureId| texts.strange || used.contains(id);
        let media = transaction.store(MEDIA)?;
        for &id in pictures.iter().filter(|id| !stays(id)) {
            media.delete(id.into()).await?;
        }
        Ok::<_, rexie::Error>(transaction)
    };
    let deleted = match delete.await {
        Ok(transaction) => written(transaction).await,
        Err(error) => Err(words(&error)),
    };
    if let Err(why) = deleted {
        not_kept(&why);
    }
}

/// Every picture that a conversation or a set shows.
pub(in crate::ui::chat) fn used(
    conversations: &[Conversation],
    sets: &[ShotSet],
) -> BTreeSet<PictureId> {
    let of_shots = |shots: &[Shot]| {
        shots
            .iter()
            .flat_map(|shot| media_of(&shot.parts))
            .collect::<Vec<_>>()
    };
    let mut used: BTreeSet<_> = sets.iter().flat_map(|set| of_shots(&set.shots)).collect();
    for conversation in conversations {
        used.extend(of_shots(&conversation.shots));
        used.extend(media_of(&conversation.draft));
        for turn in &conversation.turns {
            used.extend(turn.all_parts().flat_map(|parts| media_of(parts)));
        }
    }
    used
}
