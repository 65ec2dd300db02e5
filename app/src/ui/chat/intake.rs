//! What comes in from outside while the chat is on the page.

use leptos::task::spawn_local;
use web_sys::File;

use super::{bundle, client, media};
use crate::ui::store::Store;

/// Models and exported files go where they belong; `false` where files are
/// pictures or clips.
pub(super) fn elsewhere(store: Store, files: &[File]) -> bool {
    let model = |file: &File| {
        let name = file.name().to_lowercase();
        name.ends_with(".gguf") || name.ends_with(".safetensors")
    };
    if files.iter().any(model) {
        client::load_own(store, files);
        return true;
    }
    if bundle::is_one(files) {
        let files = files.to_vec();
        spawn_local(async move { bundle::import(store, &files).await });
        return true;
    }
    files.is_empty()
}

/// Takes in what was dropped or pasted anywhere: at the caret of the composer.
pub(in crate::ui) fn take(store: Store, files: &[File]) {
    if elsewhere(store, files) {
        return;
    }
    let files = files.to_vec();
    spawn_local(async move {
        let taken = media::take(store, &files).await;
        store.chat.composer.insert(store.chat, &taken);
    });
}
